// The support images: added, painted, removed.

import * as server from "./server.js";
import { edit } from "./editor.js";
import { find, make, picture, showErrors } from "./elements.js";
import { changed, state } from "./state.js";

const section = find("#supports");
const tiles = find(".tiles", section);
let editing = false;

/** Paint an image; several that come at once are painted one after the other, by their tiles. */
export async function paint(image) {
  if (editing) return;
  editing = true;
  try {
    const result = await edit(image);
    if (result) {
      const place = state.supports.findIndex((one) => one.id === image.id);
      // A new object: answers that are on their way belong to what was painted before.
      if (place >= 0) state.supports[place] = { ...image, ...result, revision: image.revision + 1 };
      state.step = null;
    }
  } catch (error) {
    showErrors(find(".errors", section), [error.message]);
  } finally {
    editing = false;
    changed();
  }
}

async function remove(image) {
  try {
    await server.removeImage("supports", image.id);
  } catch (error) {
    return showErrors(find(".errors", section), [error.message]);
  }
  URL.revokeObjectURL(image.url);
  state.supports = state.supports.filter((one) => one.id !== image.id);
  state.step = null;
  changed();
}

/** Show them as they are now. */
export function showSupports() {
  const { supports, limits } = state;
  find("#supports-count").textContent = supports.length ? `${supports.length} of ${limits.supports}` : "";
  const focused = document.activeElement?.dataset?.key;
  tiles.replaceChildren(...supports.map(tile));
  if (focused) find(`[data-key="${focused}"]`, tiles)?.focus();
  find(".choose", section).disabled = supports.length >= limits.supports;
  find(".choose", section).classList.toggle("primary", !supports.length);
}

function tile(image, place) {
  const done = Boolean(image.outline);
  const words = done ? `${(100 * image.coverage).toFixed(1)} % painted` : "not painted yet";
  const open = make(
    "button",
    {
      type: "button",
      className: "tile",
      ariaLabel: `Support image ${place + 1}, ${image.name}, ${words}: ${done ? "change" : "paint"}`,
      onclick: () => void paint(image),
    },
    picture(image, image.outline, "painted", ""),
    make("span", { className: "name", textContent: image.name, title: [image.name, image.grey_scale].join(" ").trim() }),
    make("span", { className: done ? "words" : "words todo", textContent: done ? words : "Paint the lesion" }),
  );
  open.dataset.key = `support-${image.id}`;
  const bin = make("button", {
    type: "button", className: "remove", textContent: "×", title: "Remove",
    ariaLabel: `Remove support image ${image.name}`, onclick: () => void remove(image),
  });
  return make("li", {}, open, bin);
}
