// A mask that is painted: strokes, polygons, and what undoes them. It knows nothing of the screen.

const COLOUR = "#f0e442"; // of annotations, as in the report
const HALF = 127;
const MOST_STEPS = 60;

function newCanvas(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

export class Painting {
  constructor(width, height) {
    this.canvas = newCanvas(width, height);
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
    this.backup = newCanvas(width, height).getContext("2d", { willReadFrequently: true });
    this.past = [];
    this.future = [];
    this.area = 0; // set pixels
    this.stroke = null;
  }

  get empty() {
    return this.area === 0;
  }

  /** Begin a stroke at an image pixel. */
  begin(x, y, radius, erase) {
    this.remember();
    this.stroke = { x, y, radius, erase };
    this.box = null;
    this.extend(x, y);
  }

  /** Go on with a stroke to an image pixel. */
  extend(x, y) {
    const { pen, stroke } = this;
    if (!stroke) return;
    pen.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    pen.strokeStyle = pen.fillStyle = COLOUR;
    pen.lineWidth = 2 * stroke.radius;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(stroke.x, stroke.y);
    pen.lineTo(x, y);
    pen.stroke();
    // A line of no length is not drawn at all: a single touch is a disc.
    pen.beginPath();
    pen.arc(x, y, stroke.radius, 0, 2 * Math.PI);
    pen.fill();
    pen.globalCompositeOperation = "source-over";
    this.touch([[stroke.x, stroke.y], [x, y]], stroke.radius);
    stroke.x = x;
    stroke.y = y;
  }

  /** End a stroke: from now on it can be undone. */
  end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.commit();
  }

  /** Take a stroke back that has not ended. */
  cancel() {
    if (!this.stroke) return;
    this.stroke = null;
    if (this.box) this.pen.putImageData(this.before(), this.box[0], this.box[1]);
  }

  /** Fill a polygon of image pixels. */
  fill(points) {
    if (points.length < 3) return;
    this.remember();
    this.box = null;
    this.pen.fillStyle = COLOUR;
    this.pen.beginPath();
    points.forEach(([x, y], place) => (place ? this.pen.lineTo(x, y) : this.pen.moveTo(x, y)));
    this.pen.closePath();
    this.pen.fill();
    this.touch(points, 1);
    this.commit();
  }

  /** Remove everything. */
  clear() {
    this.remember();
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.box = this.whole();
    this.commit();
  }

  /** Take over a mask: a picture that is bright where the lesion is. */
  async load(blob) {
    const bitmap = await createImageBitmap(blob);
    this.remember();
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.pen.drawImage(bitmap, 0, 0, this.canvas.width, this.canvas.height);
    const pixels = this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      pixels.data[i + 3] = pixels.data[i] > HALF ? 255 : 0;
    }
    this.pen.putImageData(pixels, 0, 0);
    this.box = this.whole();
    this.commit();
  }

  undo() {
    this.step(this.past, this.future, "before");
  }

  redo() {
    this.step(this.future, this.past, "after");
  }

  /** The mask as a PNG, white on black. */
  blob() {
    const canvas = newCanvas(this.canvas.width, this.canvas.height);
    const pen = canvas.getContext("2d");
    pen.drawImage(this.canvas, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "black";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  // What a change has touched: [left, top, right, bottom] within the image.

  whole() {
    return [0, 0, this.canvas.width, this.canvas.height];
  }

  touch(points, margin) {
    const xs = points.map((point) => point[0]);
    const ys = points.map((point) => point[1]);
    const [left, top, right, bottom] = this.box ?? [Infinity, Infinity, -Infinity, -Infinity];
    const reach = margin + 2;
    const { width, height } = this.canvas;
    this.box = [
      Math.max(0, Math.min(left, Math.floor(Math.min(...xs) - reach))),
      Math.max(0, Math.min(top, Math.floor(Math.min(...ys) - reach))),
      Math.min(width, Math.max(right, Math.ceil(Math.max(...xs) + reach))),
      Math.min(height, Math.max(bottom, Math.ceil(Math.max(...ys) + reach))),
    ];
  }

  remember() {
    this.backup.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.backup.drawImage(this.canvas, 0, 0);
  }

  before() {
    const [left, top, right, bottom] = this.box;
    return this.backup.getImageData(left, top, right - left, bottom - top);
  }

  /** Make the change whole pixels, and remember how to undo it. */
  commit() {
    const [left, top, right, bottom] = this.box;
    if (right <= left || bottom <= top) return; // all of it beside the image
    const before = this.before();
    const after = this.pen.getImageData(left, top, right - left, bottom - top);
    let differs = false;
    for (let i = 3; i < after.data.length; i += 4) {
      after.data[i] = after.data[i] > HALF ? 255 : 0;
      if (after.data[i]) after.data.set([240, 228, 66], i - 3);
      this.area += (after.data[i] - before.data[i]) / 255;
      differs ||= after.data[i] !== before.data[i];
    }
    this.pen.putImageData(after, left, top);
    if (!differs) return;
    this.past.push({ left, top, before, after });
    if (this.past.length > MOST_STEPS) this.past.shift();
    this.future.length = 0;
  }

  step(from, to, which) {
    const change = from.pop();
    if (!change) return;
    const other = which === "before" ? change.after : change.before;
    for (let i = 3; i < other.data.length; i += 4) this.area += (change[which].data[i] - other.data[i]) / 255;
    this.pen.putImageData(change[which], change.left, change.top);
    to.push(change);
  }
}
