// What a person does: drag a rectangle, type its bounds, choose what is shown, turn the list's pages.

const CLICK = 4; // CSS pixels: a shorter drag is a click
const step = 10 ** (Math.floor(Math.log10(high - low)) - 2); // of the bounds, nats/token
const decimals = Math.max(0, -Math.round(Math.log10(step)));

let pending = false;

/** Show the selection anew, once a frame. */
function changed() {
  listed = 0;
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    const rows = selection();
    paint();
    describe(rows);
    list(rows);
  });
}

function clear() {
  for (const input of bounds) input.value = "";
  changed();
}

/** Write a side of the rectangle; at the frame's edge it has no bound, so that what lies beyond is selected too. */
function setSide(axis, [from, to]) {
  inputs[axis].from.value = from <= low ? "" : from.toFixed(decimals);
  inputs[axis].to.value = to >= high ? "" : to.toFixed(decimals);
}

const placeOf = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

/** The ends that a press takes hold of, as {x: [...], y: [...]}: an edge, a corner, all to move it, none beside it. */
function holdsAt(event) {
  if (!isBounded()) return null;
  const reach = event.pointerType === "mouse" ? 7 : 16;
  const [left, top] = placeOf(event);
  const { x, y } = rectangle();
  const ends = (place, from, to) => {
    if (place < Math.min(from, to) - reach || place > Math.max(from, to) + reach) return null;
    const [one, other] = [Math.abs(place - from), Math.abs(place - to)];
    if (Math.min(one, other) > reach) return [];
    return [one < other ? "from" : "to"];
  };
  const held = { x: ends(left, across(x.from), across(x.to)), y: ends(top, up(y.from), up(y.to)) };
  if (!held.x || !held.y) return null;
  return held.x.length || held.y.length ? held : { x: ["from", "to"], y: ["from", "to"] };
}

function cursorFor(held) {
  if (!held) return "crosshair";
  if (held.x.length === 2) return "move";
  if (!held.y.length) return "ew-resize";
  if (!held.x.length) return "ns-resize";
  return held.x[0] === held.y[0] ? "nesw-resize" : "nwse-resize";
}

let drag = null;

function press(event) {
  if (event.button !== 0 || !event.isPrimary) return;
  canvas.setPointerCapture(event.pointerId);
  const held = holdsAt(event);
  const start = valuesAt(placeOf(event));
  const corner = (axis) => ({ from: inFrame(start[axis]), to: inFrame(start[axis]) });
  drag = {
    place: placeOf(event),
    start,
    isNew: !held,
    held: held ?? { x: ["to"], y: ["to"] },
    box: held ? rectangle() : { x: corner("x"), y: corner("y") },
    moved: false,
  };
}

function move(event) {
  if (!event.isPrimary) return;
  const place = placeOf(event);
  if (!drag) {
    canvas.style.cursor = cursorFor(holdsAt(event));
    return;
  }
  drag.moved ||= Math.hypot(place[0] - drag.place[0], place[1] - drag.place[1]) >= CLICK;
  if (!drag.moved) return;
  const now = valuesAt(place);
  for (const axis of ["x", "y"]) {
    const { from, to } = drag.box[axis];
    const held = drag.held[axis];
    let shift = now[axis] - drag.start[axis];
    if (held.length === 2) shift = Math.min(high - to, Math.max(low - from, shift)); // keeps its size at the frame
    const ends = [from + (held.includes("from") ? shift : 0), to + (held.includes("to") ? shift : 0)];
    if (held.length) setSide(axis, ends.map(inFrame).sort((one, other) => one - other)); // an end may pass the other
  }
  changed();
}

function release() {
  if (drag?.isNew && !drag.moved) clear();
  drag = null;
}

/** Plot again when the screen's pixels change: another zoom, another screen. */
function watchPixels() {
  const pixels = matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
  const again = () => {
    plot();
    watchPixels();
  };
  pixels.addEventListener("change", again, { once: true });
}

async function start() {
  await readColumns();
  root.closest("figure").querySelector(".plot").classList.add("replaced"); // it stays for print
  root.hidden = listing.hidden = false;
  plot();
  describe(selection());
  performance.mark("scatter");

  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", () => (drag = null));
  for (const input of bounds) {
    input.step = step.toFixed(decimals);
    input.addEventListener("input", changed);
  }
  for (const box of root.querySelectorAll("input[type=checkbox]")) {
    box.addEventListener("change", () => {
      plot();
      changed();
    });
  }
  find("#clear").addEventListener("click", clear);
  find("#with-texts")?.addEventListener("change", changed);
  find("#previous").addEventListener("click", (event) => turnBy(-LISTED, event));
  find("#next").addEventListener("click", (event) => turnBy(LISTED, event));
  listing.addEventListener("toggle", () => list(selection()));
  new ResizeObserver(() => canvas.clientWidth !== size && plot()).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", plot);
  watchPixels();
}

if ("DecompressionStream" in window) start();
