// Small ways to make and find elements. Text is always set as text: names of files are whatever they are.

export const find = (selector, within = document) => within.querySelector(selector);

/** An element with properties, attributes (keys with a dash or `role`) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** The border of a mask as a drawing that covers its image. */
export function outlineDrawing({ path, box }, kind) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", `0 0 ${box[0]} ${box[1]}`);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  drawing.classList.add("outline");
  for (const name of ["halo", kind]) {
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", path);
    line.classList.add(name);
    drawing.append(line);
  }
  return drawing;
}

/** An image with the outline of a mask over it. */
export function picture(image, outline, kind, alt) {
  const box = make("span", { className: "picture" });
  box.style.aspectRatio = `${image.shown[0]} / ${image.shown[1]}`;
  box.append(make("img", { src: image.url, alt, decoding: "async" }));
  if (outline && outline.path) box.append(outlineDrawing(outline, kind));
  return box;
}

/** Show messages beside what caused them, each until it is dismissed or the next action clears them. */
export function showErrors(list, messages) {
  list.replaceChildren(
    ...messages.map((message) => {
      const entry = make("li", {}, make("span", { textContent: message }));
      entry.append(make("button", { type: "button", className: "quiet", textContent: "×", ariaLabel: "Dismiss",
        onclick: () => entry.remove() }));
      return entry;
    }),
  );
}
