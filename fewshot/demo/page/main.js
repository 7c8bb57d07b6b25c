// Set the page up and keep what it shows in step with what it knows.

import * as server from "./server.js";
import { find, make, showErrors } from "./elements.js";
import { Intake } from "./intake.js";
import { removeQueries, showResults } from "./results.js";
import { progress, segment, stop } from "./segmenting.js";
import { changed, onChange, painted, state, steps } from "./state.js";
import { paint, showSupports } from "./supports.js";

const model = find("#model");
const choice = find("#choice");
let downloading = false;

// One drawing for any number of changes at once.
let planned = false;
onChange(() => {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    show();
  });
});

function show() {
  showSupports();
  showResults();
  showStatus();
  const { done, total } = progress();
  find("#download-button").disabled = downloading || !total || done < total;
}

function showStatus() {
  const now = progress();
  find("#status").textContent = statusWords(now);
  find("#stop").hidden = !now.running || now.stopped;
  find("#go").hidden = now.running || !now.waiting;
  const bar = find("#progress");
  bar.max = Math.max(1, now.total);
  bar.value = now.done;
  bar.classList.toggle("busy", now.running);
  if (now.waiting && !now.running && !now.stopped) segment();
}

function statusWords({ running, stopped, current, done, total, lastSeconds, othersFirst }) {
  const reading = intakes.reduce((sum, intake) => sum + intake.waiting, 0);
  if (reading) return `Reading ${reading} image${reading > 1 ? "s" : ""}…`;
  if (!total) return "";
  if (!steps().length) return "This method needs a support image: add one and paint its lesion.";
  if (running && stopped) return "Stopping after this image…";
  if (running && othersFirst) return "Another page is computing as well; yours takes its turn…";
  if (running && current?.history) return `Looking back: ${current.shots} support image${current.shots === 1 ? "" : "s"}…`;
  if (running) return `${state.choice.slow ? "Training and segmenting" : "Segmenting"} image ${Math.min(done + 1, total)} of ${total}…`;
  if (stopped && done < total) return `Stopped: ${done} of ${total} are done.`;
  const count = `${total} image${total > 1 ? "s" : ""}`;
  const used = state.choice.most === 0 ? 0 : painted().length;
  const given = used ? ` with ${used} support image${used > 1 ? "s" : ""}` : "";
  return `${count} segmented${given}${lastSeconds === null ? "" : `, the first in ${lastSeconds.toFixed(1)} s`}.`;
}

// Methods

/** Offer every model, and the methods of the one that is chosen. */
function showChoices() {
  const models = [...new Set(state.choices.map((each) => each.model))];
  model.replaceChildren(...models.map((name) => make("option", { value: name, textContent: name })));
  showMethods();
}

function showMethods() {
  const methods = state.choices.filter((each) => each.model === model.value);
  choice.replaceChildren(...methods.map((each) => make("option", { value: each.id, textContent: each.method })));
  choose();
}

function choose() {
  state.choice = state.choices.find((each) => each.id === choice.value);
  state.step = null;
  find("#choice-remark").textContent = state.choice.description;
  changed();
  segment();
}

// Download

async function download() {
  const errors = find("#download .errors");
  const button = find("#download-button");
  downloading = true;
  button.textContent = "Making the ZIP…";
  changed();
  try {
    showErrors(errors, []);
    const url = URL.createObjectURL(await server.archive(state.choice.id));
    make("a", { href: url, download: "fewshot-results.zip" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    showErrors(errors, [error.message]);
  }
  downloading = false;
  button.textContent = "Download the ZIP";
  changed();
}

/** Pasted pictures go where the focus is, and else to the support images as long as there is room. */
function paste(event) {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || find("#editor").open) return;
  event.preventDefault();
  const full = state.supports.length >= state.limits.supports;
  const toQueries = full || find("#queries").contains(document.activeElement) || find("#results").contains(document.activeElement);
  void intakes[toQueries ? 1 : 0].take(files);
}

// A session that has ended

function ended(message) {
  const notice = find("#ended");
  find("p", notice).textContent = message;
  find("button", notice).onclick = () => location.reload();
  notice.hidden = false;
  document.body.classList.add("over");
}

const intakes = [
  new Intake(find("#supports"), "supports", (image, count) => count === 1 && void paint(image)),
  new Intake(find("#queries"), "queries", () => segment()),
];
intakes[0].dropOn(find("#supports"));
intakes[1].dropOn(find("#queries"));
intakes[1].dropOn(find("#results"));
// A file that misses its place does not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("paste", paste);

model.addEventListener("change", showMethods);
choice.addEventListener("change", choose);
find("#stop").addEventListener("click", stop);
find("#go").addEventListener("click", segment);
find("#download-button").addEventListener("click", download);
find("#clear").addEventListener("click", () => void removeQueries(state.queries));
find("#show-outline").addEventListener("change", changed);
find("#show-heat").addEventListener("change", ({ target }) => {
  find(".opacity").hidden = !target.checked;
  changed();
});
find("#opacity").addEventListener("input", changed);
server.onEnd(ended);

try {
  const facts = await server.begin();
  state.choices = facts.choices;
  state.limits = facts.limits;
  showChoices();
  document.body.dataset.ready = "yes";
} catch (error) {
  ended(error.message);
}
