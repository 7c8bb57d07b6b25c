// What the painting area shows: the image, the mask over it, a polygon that is not closed yet, and the brush.

const LINE = "#f0e442";

export function draw(canvas, { bitmap, painting, view, polygon, pointer, radius, tool, keyboard }) {
  const pen = canvas.getContext("2d");
  const density = canvas.width / canvas.clientWidth;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(density * view.scale, 0, 0, density * view.scale, density * view.left, density * view.top);
  pen.imageSmoothingEnabled = view.scale < 3; // close up, pixels are what they are
  pen.drawImage(bitmap, 0, 0, painting.canvas.width, painting.canvas.height);
  pen.globalAlpha = 0.4;
  pen.drawImage(painting.canvas, 0, 0);
  pen.globalAlpha = 1;
  pen.setTransform(density, 0, 0, density, 0, 0);
  if (polygon.length) drawPolygon(pen, polygon.map((point) => view.toScreen(...point)), pointer);
  if (pointer && (tool === "brush" || tool === "eraser")) ring(pen, pointer, radius * view.scale);
  if (pointer && keyboard) cross(pen, pointer);
}

function twice(pen, width, stroke) {
  for (const [colour, extra] of [["rgb(0 0 0 / .6)", 2], [LINE, 0]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width + extra;
    stroke();
  }
}

function drawPolygon(pen, points, pointer) {
  pen.lineJoin = "round";
  twice(pen, 1.8, () => {
    pen.beginPath();
    points.forEach(([x, y], place) => (place ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    if (pointer) pen.lineTo(...pointer);
    pen.stroke();
  });
  points.forEach(([x, y], place) => {
    pen.beginPath();
    pen.arc(x, y, place ? 3.5 : 6, 0, 2 * Math.PI);
    pen.fillStyle = LINE;
    pen.strokeStyle = "rgb(0 0 0 / .7)";
    pen.lineWidth = 1.5;
    pen.fill();
    pen.stroke();
  });
}

function ring(pen, [x, y], radius) {
  for (const [colour, width] of [["rgb(0 0 0 / .7)", 3], ["white", 1.2]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    pen.arc(x, y, Math.max(1, radius), 0, 2 * Math.PI);
    pen.stroke();
  }
}

function cross(pen, [x, y]) {
  twice(pen, 1.5, () => {
    pen.beginPath();
    pen.moveTo(x - 9, y);
    pen.lineTo(x + 9, y);
    pen.moveTo(x, y - 9);
    pen.lineTo(x, y + 9);
    pen.stroke();
  });
}
