// What came out: one image large, its steps from no support image to all, and all images small.

import * as server from "./server.js";
import { find, make, outlineDrawing, picture } from "./elements.js";
import { answerKey, answerOf, changed, state, steps } from "./state.js";

const stage = find("#stage");
const heat = { key: null, url: null };

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
const sure = (answer) => (answer.confidence === null ? "–" : answer.confidence.toFixed(2));
const withSupports = (shots) => (shots === 0 ? "without support images" : `with ${shots} support image${shots > 1 ? "s" : ""}`);

const selectedQuery = () => state.queries.find((query) => query.id === state.selected) ?? state.queries[0];

/** The step that is shown large: the one that was clicked on, or else the last. */
function shownStep() {
  const all = steps();
  return all.includes(state.step) ? state.step : (all.at(-1) ?? null);
}

export function showResults() {
  const query = selectedQuery();
  find("#nothing").hidden = Boolean(query);
  find("#shown").hidden = !query;
  if (query) {
    showLarge(query);
    showStrip(query);
  }
  showGallery();
}

// One image, large

function showLarge(query) {
  const shots = shownStep();
  const answer = shots === null ? null : answerOf(query, shots);
  const key = answerKey(query, shots ?? 0);
  stage.style.aspectRatio = `${query.shown[0]} / ${query.shown[1]}`;
  stage.style.setProperty("--ratio", query.shown[0] / query.shown[1]);
  const layers = [make("img", { src: query.url, alt: large(query, answer, shots) })];
  if (answer?.outline) {
    if (find("#show-heat").checked) layers.push(heatLayer(query, shots, key));
    if (find("#show-outline").checked && answer.outline.path) layers.push(outlineDrawing(answer.outline, "prediction"));
  }
  stage.replaceChildren(...layers.filter(Boolean));
  stage.classList.toggle("waiting", shots !== null && !answer);
  find("#stage-name").textContent = shots === null ? query.name : `${query.name}, ${withSupports(shots)}`;
  showFacts(query, answer);
}

function large(query, answer, shots) {
  if (!answer?.outline) return query.name;
  return `${query.name}, ${withSupports(shots)}: ${answer.area ? `lesion on ${percent(answer.coverage)} of it` : "no lesion found"}`;
}

/** The heat map, fetched when it is wanted and kept until another one is. */
function heatLayer(query, shots, key) {
  if (heat.key !== key) {
    if (heat.url) URL.revokeObjectURL(heat.url);
    heat.key = key;
    heat.url = null;
    server.heatUrl(query.id, state.choice.id, shots).then(
      (url) => {
        if (heat.key !== key) return URL.revokeObjectURL(url);
        heat.url = url;
        return changed();
      },
      () => (heat.key = null),
    );
  }
  if (!heat.url) return null;
  const layer = make("img", { src: heat.url, alt: "", className: "heat" });
  layer.style.opacity = find("#opacity").value / 100;
  return layer;
}

function showFacts(query, answer) {
  const facts = find("#facts");
  const flags = find("#flags");
  if (!answer || answer.error) {
    facts.replaceChildren();
    flags.replaceChildren(...(answer?.error ? [flag("error", answer.error)] : []));
    return;
  }
  const rows = [
    ["Confidence", sure(answer)],
    ["Area", `${answer.area.toLocaleString("en")} px, ${percent(answer.coverage)}`],
    ...(answer.area_mm2 === null ? [] : [["", `${answer.area_mm2.toFixed(1)} mm²`]]),
    ...Object.entries(answer.labels).map(([label, share]) => [label, share.toFixed(2)]),
    ["Parts", String(answer.components)],
    ["Image", `${query.size[0]} × ${query.size[1]} px`],
    ...(query.grey_scale ? [["Greys", query.grey_scale]] : []),
  ];
  facts.replaceChildren(
    ...rows.map(([name, value]) => make("div", {}, make("dt", { textContent: name }), make("dd", { textContent: value }))),
  );
  flags.replaceChildren(...Object.entries(answer.flags).map(([kind, reason]) => flag(kind, reason)));
}

const NAMES = { unsure: "Unsure", empty: "Empty", unlike: "Unlike", error: "No mask" };

const flag = (kind, reason) =>
  make("li", { className: `flag ${kind}` }, make("strong", { textContent: NAMES[kind] ?? kind }), ` ${reason}`);

// Its steps

function showStrip(query) {
  const all = steps();
  const shown = shownStep();
  const strip = find("#strip");
  const focused = document.activeElement?.dataset?.key;
  strip.replaceChildren(...all.map((shots) => stripStep(query, shots, shots === shown)));
  if (focused) find(`[data-key="${focused}"]`, strip)?.focus();
  strip.style.setProperty("--steps", Math.max(3, all.length));
  find(".change").hidden = !all.length;
  const unused = state.choice.most === 0;
  find("#strip-title").textContent = unused ? "Support images change nothing here" : "With each further support image";
}

function stripStep(query, shots, pressed) {
  const answer = answerOf(query, shots);
  const words = answer ? (answer.error ? "no mask" : `${sure(answer)} · ${percent(answer.coverage)}`) : "…";
  const step = make(
    "button",
    {
      type: "button",
      className: `step ${answer ? "" : "waiting"}`,
      ariaPressed: String(pressed),
      ariaLabel: `${withSupports(shots)}: ${answer && !answer.error ? `confidence ${sure(answer)}, area ${percent(answer.coverage)}` : words}`,
      onclick: () => {
        state.step = shots;
        changed();
      },
    },
    picture(query, answer?.outline, "prediction", ""),
    make("span", { className: "shots", textContent: shots === 0 ? "0 supports" : shots === 1 ? "1 support" : `${shots} supports` }),
    make("span", { className: "words", textContent: words }),
  );
  step.dataset.key = `step-${shots}`;
  return make("li", {}, step);
}

// All images, small

function showGallery() {
  const gallery = find("#gallery");
  const chosen = selectedQuery()?.id;
  find("#gallery-title").hidden = !state.queries.length;
  find("#queries-count").textContent = state.queries.length ? String(state.queries.length) : "";
  const kept = new Map([...gallery.children].map((entry) => [entry.dataset.id, entry]));
  const last = steps().at(-1);
  gallery.replaceChildren(
    ...state.queries.map((query) => {
      const answer = last === undefined ? undefined : answerOf(query, last);
      const key = `${last === undefined ? "none" : answerKey(query, last)} ${Boolean(answer)} ${query.id === chosen}`;
      const old = kept.get(query.id);
      // Hundreds of images: only those that look different are made anew.
      return old?.dataset.seen === key ? old : galleryEntry(query, answer, query.id === chosen, key, last !== undefined);
    }),
  );
}

function galleryEntry(query, answer, pressed, key, expected) {
  const flags = answer ? Object.keys(answer.flags ?? {}) : [];
  const words = answer?.error ? "no mask" : answer ? (answer.area ? sure(answer) : "empty") : expected ? "…" : "";
  const warned = flags.includes("unsure") || flags.includes("unlike") || Boolean(answer?.error);
  const open = make(
    "button",
    {
      type: "button",
      className: `thumb ${answer || !expected ? "" : "waiting"}`,
      ariaPressed: String(pressed),
      ariaLabel: `${query.name}${answer ? `, confidence ${words}` : ""}${flags.length ? `, ${flags.join(", ")}` : ""}`,
      onclick: () => {
        state.selected = query.id;
        changed();
      },
    },
    picture(query, answer?.outline, "prediction", ""),
    make("span", { className: "name", textContent: query.name, title: query.name }),
    make("span", { className: warned ? "words warned" : "words", textContent: words }),
  );
  const bin = make("button", {
    type: "button", className: "remove", textContent: "×", title: "Remove",
    ariaLabel: `Remove ${query.name}`, onclick: () => void removeQueries([query]),
  });
  const entry = make("li", {}, open, bin);
  entry.dataset.id = query.id;
  entry.dataset.seen = key;
  return entry;
}

/** Remove images to segment, here and on the server. */
export async function removeQueries(queries) {
  for (const query of queries) {
    try {
      await server.removeImage("queries", query.id);
    } catch {
      return; // the session has ended, which is said elsewhere
    }
    URL.revokeObjectURL(query.url);
    state.queries = state.queries.filter((one) => one.id !== query.id);
  }
  changed();
}
