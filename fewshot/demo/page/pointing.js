// From mouse, pen, fingers, wheel and arrow keys to what they mean: press, drag, release, zoom, pan.

const KEY_STEP = 12;

/** Watch a canvas and call what `on` holds: press, drag, release, cancel, hover, zoom, pan; places in screen pixels. */
export function watch(canvas, on) {
  const pointers = new Map();
  let panning = null;
  let spread = null;

  const place = (event) => [event.offsetX, event.offsetY];

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that was gone before it was heard of.
    }
    pointers.set(event.pointerId, place(event));
    if (pointers.size === 2) {
      on.cancel();
      panning = null;
      spread = fingers(pointers);
    } else if (pointers.size === 1) {
      if (event.button === 1 || on.moves(event)) panning = place(event);
      else if (event.button === 0) on.press(...place(event));
    }
    event.preventDefault();
  });

  canvas.addEventListener("pointermove", (event) => {
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, place(event));
    if (spread && pointers.size === 2) {
      const now = fingers(pointers);
      on.zoom(now.distance / spread.distance, ...now.middle);
      on.pan(now.middle[0] - spread.middle[0], now.middle[1] - spread.middle[1]);
      spread = now;
    } else if (panning) {
      const [x, y] = place(event);
      on.pan(x - panning[0], y - panning[1]);
      panning = [x, y];
    } else if (pointers.size === 1 && !spread) {
      // A fast stroke is more than the few places that the screen's pace gives.
      const all = event.getCoalescedEvents?.() ?? [];
      for (const each of all.length ? all : [event]) on.drag(...place(each));
    }
    on.hover(event.pointerType === "touch" ? null : place(event));
  });

  const lift = (event) => {
    const known = pointers.delete(event.pointerId);
    if (!pointers.size) {
      if (known && !panning && !spread) on.release();
      panning = null;
      spread = null;
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", (event) => {
    on.cancel();
    lift(event);
  });
  canvas.addEventListener("pointerleave", () => on.hover(null));
  canvas.addEventListener("dblclick", () => on.twice());
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      on.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
    },
    { passive: false },
  );
}

function fingers(pointers) {
  const [[x1, y1], [x2, y2]] = pointers.values();
  return { distance: Math.max(1, Math.hypot(x2 - x1, y2 - y1)), middle: [(x1 + x2) / 2, (y1 + y2) / 2] };
}

/** How far an arrow key moves the place that keys paint at; null for any other key. */
export function arrow(event) {
  const step = event.shiftKey ? 1 : KEY_STEP;
  return { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key] ?? null;
}
