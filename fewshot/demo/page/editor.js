// The dialog in which a lesion is painted.

import * as server from "./server.js";
import { draw } from "./drawing.js";
import { find } from "./elements.js";
import { Painting } from "./painting.js";
import { arrow, watch } from "./pointing.js";
import { View } from "./view.js";

const CLOSE_ENOUGH = 12; // screen pixels from a polygon's first point that close it
const TOUCH = matchMedia("(pointer: coarse)").matches;
const ZOOM = TOUCH ? "Two fingers zoom and move." : "The wheel zooms; space bar and drag move.";
const HELP = {
  brush: `Paint the whole lesion. ${ZOOM}`,
  eraser: `Rub out what is too much. ${ZOOM}`,
  polygon: TOUCH
    ? "Tap around the lesion; tap the first point again to close."
    : "Click around the lesion; double click, Enter or the first point closes it, Escape gives it up.",
  move: `Drag the image. ${ZOOM}`,
};

const dialog = find("#editor");
const canvas = find("#canvas");
const size = find("#brush-size");
const message = find("#editor-error");

const view = new View();
let image = null;
let bitmap = null;
let painting = null;
let polygon = [];
let pointer = null;
let keyboard = false;
let space = false;
let tool = "brush";
let finished = null;

/** Paint an image; the promise gives what the server says of the mask, or null if nothing was changed. */
export async function edit(chosen) {
  image = chosen;
  bitmap = await loaded(image.url);
  painting = new Painting(...image.shown);
  if (image.outline) {
    await painting.load(await server.paintedMask(image.id));
    painting.past.length = 0;
  }
  find("#editor-name").textContent = image.name;
  message.textContent = "";
  polygon = [];
  pointer = null;
  size.max = Math.max(20, Math.round(Math.max(...image.shown) / 4));
  size.value = Math.max(6, Math.round(Math.max(...image.shown) / 22));
  choose("brush");
  dialog.showModal();
  fit();
  resized();
  canvas.focus();
  return new Promise((resolve) => (finished = resolve));
}

function close(result) {
  dialog.close();
  finished?.(result);
  finished = null;
}

async function loaded(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  return picture;
}

function refresh() {
  if (!dialog.open) return;
  draw(canvas, { bitmap, painting, view, polygon, pointer, radius: radius(), tool, keyboard });
  find("#undo").disabled = !painting.past.length && !polygon.length;
  find("#redo").disabled = !painting.future.length;
  find("#clear-painting").disabled = painting.empty && !polygon.length;
  find("#brush-size-shown").value = size.value;
}

/** Show the whole image. */
function fit() {
  view.fit(image.shown, [canvas.clientWidth, canvas.clientHeight]);
  refresh();
}

/** Give the canvas as many pixels as the screen has; who has zoomed in sees the same place as before. */
function resized() {
  const density = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * density);
  canvas.height = Math.round(canvas.clientHeight * density);
  if (view.fitted) fit();
  else view.resize([canvas.clientWidth, canvas.clientHeight]);
  refresh();
}

const radius = () => Number(size.value) / 2;
const centre = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];

function choose(name) {
  if (name !== "polygon") polygon = [];
  tool = name;
  find(`input[value=${name}]`, dialog).checked = true;
  find("#editor-help").textContent = HELP[name];
  canvas.dataset.tool = name;
  refresh();
}

// Painting

function press(x, y) {
  message.textContent = "";
  if (tool === "polygon") addPoint(x, y);
  else painting.begin(...view.toImage(x, y), radius(), tool === "eraser");
  refresh();
}

function addPoint(x, y) {
  if (polygon.length > 2) {
    const [firstX, firstY] = view.toScreen(...polygon[0]);
    if (Math.hypot(x - firstX, y - firstY) <= CLOSE_ENOUGH) return closePolygon();
  }
  polygon.push(view.toImage(x, y));
}

function closePolygon() {
  // A double click has set its point twice.
  const points = polygon.filter((point, place) => !place || Math.hypot(point[0] - polygon[place - 1][0], point[1] - polygon[place - 1][1]) > 0.5);
  if (points.length < 3) message.textContent = "A polygon needs three points at least.";
  else painting.fill(points);
  polygon = [];
  refresh();
}

function undo() {
  if (polygon.length) polygon.pop();
  else painting.undo();
  refresh();
}

function redo() {
  painting.redo();
  refresh();
}

function clear() {
  polygon = [];
  painting.clear();
  refresh();
}

function zoom(factor, x, y) {
  view.zoom(factor, x, y);
  refresh();
}

watch(canvas, {
  moves: () => tool === "move" || space,
  press,
  drag(x, y) {
    if (painting.stroke) painting.extend(...view.toImage(x, y));
    refresh();
  },
  release() {
    painting.end();
    refresh();
  },
  cancel() {
    painting.cancel();
    if (tool === "polygon") polygon.pop();
    refresh();
  },
  hover(place) {
    pointer = place;
    keyboard = false;
    refresh();
  },
  twice: () => tool === "polygon" && polygon.length && closePolygon(),
  zoom,
  pan(dx, dy) {
    view.pan(dx, dy);
    refresh();
  },
});

// Keys

const KEYS = {
  b: () => choose("brush"),
  e: () => choose("eraser"),
  p: () => choose("polygon"),
  m: () => choose("move"),
  "[": () => resize(-2),
  "]": () => resize(2),
  "+": () => zoom(1.25, ...centre()),
  "=": () => zoom(1.25, ...centre()),
  "-": () => zoom(0.8, ...centre()),
  0: fit,
};

function resize(by) {
  size.value = Number(size.value) + by;
  refresh();
}

dialog.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    return event.shiftKey ? redo() : undo();
  }
  if (event.ctrlKey && event.key.toLowerCase() === "y") {
    event.preventDefault();
    return redo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return undefined;
  const act = KEYS[event.key.toLowerCase()];
  if (act && event.target.type !== "range") {
    event.preventDefault();
    return act();
  }
  return event.target === canvas ? paintByKey(event) : undefined;
});

function paintByKey(event) {
  const by = arrow(event);
  if (by) {
    const [x, y] = pointer ?? centre();
    pointer = [Math.min(canvas.clientWidth, Math.max(0, x + by[0])), Math.min(canvas.clientHeight, Math.max(0, y + by[1]))];
    keyboard = true;
    if (painting.stroke) painting.extend(...view.toImage(...pointer));
  } else if (event.key === " ") {
    if (!keyboard) space = true;
    else if (!event.repeat) press(...pointer);
  } else if (event.key === "Enter") {
    if (polygon.length) closePolygon();
  } else if (event.key === "Backspace" && polygon.length) {
    polygon.pop();
  } else return;
  event.preventDefault();
  refresh();
}

dialog.addEventListener("keyup", (event) => {
  if (event.key !== " ") return;
  space = false;
  painting.end();
  refresh();
});

// Escape gives up a polygon first, and the painting only if there is none.
dialog.addEventListener("cancel", (event) => {
  event.preventDefault();
  if (polygon.length) {
    polygon = [];
    refresh();
  } else close(null);
});

// Buttons

find("#undo").addEventListener("click", undo);
find("#redo").addEventListener("click", redo);
find("#clear-painting").addEventListener("click", clear);
find("#zoom-in").addEventListener("click", () => zoom(1.25, ...centre()));
find("#zoom-out").addEventListener("click", () => zoom(0.8, ...centre()));
find("#zoom-fit").addEventListener("click", fit);
find("#cancel").addEventListener("click", () => close(null));
find("form", dialog).addEventListener("submit", (event) => event.preventDefault());
size.addEventListener("input", refresh);
for (const input of dialog.querySelectorAll("input[name=tool]")) input.addEventListener("change", () => choose(input.value));
new ResizeObserver(() => dialog.open && resized()).observe(canvas);

find("#mask-file").addEventListener("click", () => find("#mask-input").click());
find("#mask-input").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  target.value = "";
  if (!file) return;
  await said(async () => painting.load(await server.maskFromFile(image.id, file)));
});

find("#done").addEventListener("click", async ({ target }) => {
  if (polygon.length > 2) closePolygon();
  if (painting.empty) {
    message.textContent = "Nothing is painted yet. Paint the lesion first, or cancel.";
    return;
  }
  target.disabled = true;
  await said(async () => close(await server.paint(image.id, await painting.blob())));
  target.disabled = false;
});

/** Do something, and say in the dialog what the server has against it. */
async function said(act) {
  message.textContent = "";
  try {
    await act();
  } catch (error) {
    message.textContent = error.message;
  }
  refresh();
}
