// Which part of an image is seen, and how large: from image pixels to the screen and back.

const CLOSEST = 16; // screen pixels for one image pixel

export class View {
  constructor() {
    this.scale = 1;
    this.left = 0;
    this.top = 0;
  }

  /** Show the whole image (width, height) in a window (width, height). */
  fit(image, box) {
    this.image = image;
    this.box = box;
    this.scale = this.least = this.whole();
    this.left = (box[0] - image[0] * this.scale) / 2;
    this.top = (box[1] - image[1] * this.scale) / 2;
  }

  /** The scale at which the whole image is seen, with a margin. */
  whole() {
    const margin = this.box[0] < 500 ? 8 : 24;
    return Math.min((this.box[0] - 2 * margin) / this.image[0], (this.box[1] - 2 * margin) / this.image[1]);
  }

  /** Go on in a window of another size: what was in the middle stays there. */
  resize(box) {
    const middle = this.toImage(this.box[0] / 2, this.box[1] / 2);
    this.box = box;
    this.least = this.whole();
    this.left = box[0] / 2 - middle[0] * this.scale;
    this.top = box[1] / 2 - middle[1] * this.scale;
  }

  /** Whether the whole image is seen, as `fit` shows it. */
  get fitted() {
    return Math.abs(this.scale - this.least) < 1e-6;
  }

  /** The image pixel under a place of the window. */
  toImage(x, y) {
    return [(x - this.left) / this.scale, (y - this.top) / this.scale];
  }

  /** Where an image pixel lies in the window. */
  toScreen(x, y) {
    return [x * this.scale + this.left, y * this.scale + this.top];
  }

  /** Zoom by a factor, so that what lies under a place of the window stays there. */
  zoom(factor, x, y) {
    const scale = Math.min(CLOSEST, Math.max(this.least / 2, this.scale * factor));
    const [imageX, imageY] = this.toImage(x, y);
    this.scale = scale;
    this.left = x - imageX * scale;
    this.top = y - imageY * scale;
    this.keepInSight();
  }

  /** Move by screen pixels. */
  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.keepInSight();
  }

  /** Some of the image is always seen. */
  keepInSight() {
    const rest = 48;
    const size = [this.image[0] * this.scale, this.image[1] * this.scale];
    this.left = Math.min(this.box[0] - rest, Math.max(rest - size[0], this.left));
    this.top = Math.min(this.box[1] - rest, Math.max(rest - size[1], this.top));
  }
}
