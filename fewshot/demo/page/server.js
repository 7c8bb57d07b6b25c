// Requests to the server that this page came from; it talks to no other.

let token = "";
let tellEnd = () => {};

/** Call a function with the reason when the session has ended. */
export const onEnd = (listener) => (tellEnd = listener);

export class Refused extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/** Begin a session; it ends when the page is closed. */
export async function begin() {
  const facts = await (await ask("POST", "session")).json();
  token = facts.token;
  addEventListener("pagehide", () => navigator.sendBeacon("session/end", token));
  // A page that the browser has kept and brings back finds its session ended.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  return facts;
}

/** Ask for something; what the server refuses is thrown as its own words. */
async function ask(method, path, { body, file, json } = {}) {
  const headers = { "fewshot-session": token };
  if (file !== undefined) headers["fewshot-file"] = encodeURIComponent(file);
  if (json !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: json === undefined ? body : JSON.stringify(json) });
  } catch {
    throw new Refused("The server does not answer. Is it still running?", 0);
  }
  if (response.ok) return response;
  const { error } = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (response.status === 410) tellEnd(error);
  throw new Refused(error, response.status);
}

export const addImage = async (kind, file) =>
  (await ask("POST", kind, { body: file, file: file.name })).json();

export const removeImage = (kind, id) => ask("DELETE", `${kind}/${id}`);

export const pictureUrl = async (kind, id) =>
  URL.createObjectURL(await (await ask("GET", `${kind}/${id}/picture`)).blob());

export const paintedMask = async (id) => (await ask("GET", `supports/${id}/mask`)).blob();

export const maskFromFile = async (id, file) =>
  (await ask("POST", `supports/${id}/mask-file`, { body: file, file: file.name })).blob();

export const paint = async (id, mask) => (await ask("PUT", `supports/${id}/mask`, { body: mask })).json();

export const answer = async (id, choice, shots) =>
  (await ask("POST", `queries/${id}/answer`, { json: { choice, shots } })).json();

export const heatUrl = async (id, choice, shots) =>
  URL.createObjectURL(await (await ask("POST", `queries/${id}/heat`, { json: { choice, shots } })).blob());

/** How many computations, of all pages, are going on or wait. */
export const queue = async () => (await (await ask("GET", "queue")).json()).waiting;

export const archive = async (choice) => (await ask("POST", "archive", { json: { choice } })).blob();
