// The loop that asks for one mask after another, those that are looked at first.

import * as server from "./server.js";
import { answerKey, answerOf, changed, painted, state, steps } from "./state.js";

let running = false;
let stopped = false;
let current = null;
let began = 0;
let lastSeconds = null;
let othersFirst = false;

const PATIENCE = 1500; // milliseconds before it is asked why an answer takes so long

/** What is going on, for the status line. */
export function progress() {
  const last = steps().at(-1);
  const done = last === undefined ? 0 : state.queries.filter((query) => answerOf(query, last)).length;
  return { running, stopped, current, done, total: state.queries.length, lastSeconds, othersFirst, waiting: nextJob() !== null };
}

/** Begin, or go on, unless there is nothing to do. */
export function segment() {
  stopped = false;
  if (!running) void loop();
}

/** Begin nothing more; what is being computed is not shown as running any longer than it takes. */
export function stop() {
  stopped = true;
  changed();
}

async function loop() {
  running = true;
  began = performance.now();
  for (let job = nextJob(); job && !stopped; job = nextJob()) {
    current = job;
    changed();
    const key = answerKey(job.query, job.shots);
    const result = await ask(job);
    // Refused because the support images have changed meanwhile: the next job is of those that there are now.
    if (result) state.answers.set(key, result);
    if (job.first) lastSeconds = (performance.now() - began) / 1000;
    if (result?.fatal) stopped = true;
  }
  running = false;
  current = null;
  changed();
}

async function ask({ query, shots }) {
  const supports = painted().slice(0, shots);
  const same = () => supports.every((image, place) => painted()[place] === image);
  const choice = state.choice.id;
  const late = setInterval(async () => {
    othersFirst = (await server.queue().catch(() => 0)) > 1;
    changed();
  }, PATIENCE);
  try {
    const answer = await server.answer(query.id, choice, shots);
    return same() && choice === state.choice.id ? answer : null;
  } catch (error) {
    if (error.code === 409 || error.code === 404 || !same()) return pause(null);
    return { error: error.message, fatal: error.code === 0 || error.code === 410, code: error.code, shots };
  } finally {
    clearInterval(late);
    othersFirst = false;
  }
}

/** The mask that is missed most: of the image that is shown, then of all others, then the steps that led there. */
function nextJob() {
  const all = steps();
  const last = all.at(-1);
  if (last === undefined || !state.queries.length) return null;
  const chosen = state.queries.find((query) => query.id === state.selected) ?? state.queries[0];
  const missing = (query, shots) => !answerOf(query, shots);
  if (missing(chosen, last)) return { query: chosen, shots: last, first: true };
  const others = () => {
    const query = state.queries.find((one) => missing(one, last));
    return query ? { query, shots: last } : null;
  };
  const history = () => {
    const shots = all.findLast((one) => missing(chosen, one));
    return shots === undefined ? null : { query: chosen, shots, history: true };
  };
  // A slow method trains for every step: the other images come first.
  return state.choice.slow ? (others() ?? history()) : (history() ?? others());
}

/** A refusal that the next question will not meet: not asked at once again. */
const pause = (value) => new Promise((resolve) => setTimeout(resolve, 100, value));
