// What this page knows: the methods, the images, and what was answered of them.

export const state = {
  choices: [],
  choice: null,
  limits: {},
  supports: [], // {id, name, size, shown, grey_scale, url, outline, coverage, revision}
  queries: [], // {id, name, size, shown, grey_scale, url}
  selected: null, // id of a query
  step: null, // shots of the step that is shown large; null for the last
  answers: new Map(),
};

const listeners = [];

/** Call a function after every change. */
export const onChange = (listener) => listeners.push(listener);

/** Say that something has changed. */
export const changed = () => listeners.forEach((listener) => listener());

export const painted = () => state.supports.filter((image) => image.outline);

/** With how many support images the method is shown: none but 0 where it uses none. */
export function steps() {
  const { fewest, most } = state.choice;
  const last = most === null ? painted().length : Math.min(most, painted().length);
  return Array.from({ length: Math.max(0, last - fewest + 1) }, (_, place) => fewest + place);
}

/** By which an answer is found again: the method, the support images that it was given, and the image. */
export function answerKey(query, shots) {
  const given = painted().slice(0, shots).map((image) => `${image.id}.${image.revision}`);
  return [state.choice.id, given.join(","), query.id].join("|");
}

export const answerOf = (query, shots) => state.answers.get(answerKey(query, shots));
