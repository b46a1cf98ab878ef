// The picture: every pair that the filters let through, the diagonal, and the rectangle with all else veiled.

const MARGIN = { left: 54, right: 10, top: 10, bottom: 46 }; // CSS pixels around the frame
const MARKS = { safe: "circle", unsafe: "square" }; // by query type; any other is a triangle
const MANY = 5000; // pairs: from here on their marks are smaller

const canvas = root.querySelector("canvas");
const plotted = document.createElement("canvas"); // axes and points: drawn once, not at every step of a drag
const [low, high] = store.limits;
let size = 0; // of the square canvas, CSS pixels

const inFrame = (value) => Math.min(high, Math.max(low, value));
const across = (value) => MARGIN.left + ((value - low) / (high - low)) * (size - MARGIN.left - MARGIN.right);
const up = (value) => MARGIN.top + ((high - value) / (high - low)) * (size - MARGIN.top - MARGIN.bottom);

/** What lies at a place of the canvas, nats/token; also outside the frame. */
function valuesAt([left, top]) {
  return {
    x: low + ((left - MARGIN.left) / (size - MARGIN.left - MARGIN.right)) * (high - low),
    y: high - ((top - MARGIN.top) / (size - MARGIN.top - MARGIN.bottom)) * (high - low),
  };
}

/** The rectangle as far as it lies in the frame, in data units. */
function rectangle() {
  const side = (axis) => ({ from: inFrame(bound(axis, "from")), to: inFrame(bound(axis, "to")) });
  return { x: side("x"), y: side("y") };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A drawing context in CSS pixels on a surface made `extent` of them wide and high. */
function penOn(surface, extent) {
  surface.width = surface.height = Math.round(extent * window.devicePixelRatio);
  const pen = surface.getContext("2d");
  pen.font = `12px ${getComputedStyle(root).fontFamily}`;
  pen.scale(surface.width / extent, surface.width / extent);
  return pen;
}

function drawMark(pen, type, middle, radius) {
  const name = store.query_types[type];
  pen.fillStyle = colour(MARKS[name] ? name : "unknown");
  pen.beginPath();
  if (MARKS[name] === "circle") pen.arc(middle, middle, radius, 0, 2 * Math.PI);
  else if (MARKS[name] === "square") pen.rect(middle - 0.85 * radius, middle - 0.85 * radius, 1.7 * radius, 1.7 * radius);
  else {
    pen.moveTo(middle, middle - radius);
    pen.lineTo(middle + radius, middle + 0.8 * radius);
    pen.lineTo(middle - radius, middle + 0.8 * radius);
  }
  pen.fill();
}

/** Round numbers in the frame, at most about `wanted`, each with how it is written. */
function ticks(wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const distance = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const decimals = Math.max(0, -Math.floor(Math.log10(distance) + 1e-9));
  const found = [];
  for (let k = Math.ceil(low / distance); k * distance <= high; k++) {
    found.push([k * distance, (k * distance).toFixed(decimals).replace("-", "−")]);
  }
  return found;
}

function clipToFrame(pen) {
  pen.beginPath();
  pen.rect(across(low), up(high), across(high) - across(low), up(low) - up(high));
  pen.clip();
}

function drawAxes(pen) {
  pen.strokeStyle = colour("line");
  pen.fillStyle = colour("soft");
  for (const [value, written] of ticks(size / 60)) {
    pen.beginPath();
    pen.moveTo(across(value), up(low));
    pen.lineTo(across(value), up(high));
    pen.moveTo(across(low), up(value));
    pen.lineTo(across(high), up(value));
    pen.stroke();
    pen.textAlign = "center";
    pen.fillText(written, across(value), up(low) + 17);
    pen.textAlign = "right";
    pen.fillText(written, across(low) - 6, up(value) + 4);
  }
  pen.textAlign = "center";
  pen.fillText("MI of the rejected response (nats/token)", (across(low) + across(high)) / 2, size - 8);
  pen.save();
  pen.rotate(-Math.PI / 2);
  pen.fillText("MI of the chosen response (nats/token)", -(up(low) + up(high)) / 2, 13);
  pen.restore();
}

function drawPoints(pen) {
  const { x, y, query_type } = columns;
  const passes = passing();
  const radius = store.pairs < MANY ? 3 : 2;
  const extent = 2 * radius + 2;
  const stamps = store.query_types.map((_, type) => {
    const stamp = document.createElement("canvas");
    drawMark(penOn(stamp, extent), type, extent / 2, radius);
    return stamp;
  });
  pen.globalAlpha = Math.min(0.75, Math.max(0.3, 40 / Math.sqrt(store.pairs)));
  for (let i = 0; i < store.pairs; i++) {
    if (passes(i)) {
      pen.drawImage(stamps[query_type[i]], across(x[i]) - extent / 2, up(y[i]) - extent / 2, extent, extent);
    }
  }
  pen.globalAlpha = 1;
}

function drawDiagonal(pen) {
  pen.strokeStyle = pen.fillStyle = colour("ink");
  pen.lineWidth = 1.5;
  pen.setLineDash([6, 4]);
  pen.beginPath();
  pen.moveTo(across(low), up(low));
  pen.lineTo(across(high), up(high));
  pen.stroke();
  pen.setLineDash([]);
  pen.strokeStyle = colour("paper"); // a rim, for the words lie over points
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  for (const [align, words, ...at] of [
    ["left", "chosen higher", across(low) + 8, up(high) + 18],
    ["right", "rejected higher", across(high) - 8, up(low) - 10],
  ]) {
    pen.textAlign = align;
    pen.strokeText(words, ...at);
    pen.fillText(words, ...at);
  }
}

/** Draw everything, for the canvas's size, the screen's pixels and the colours of now. */
function plot() {
  if (!canvas.clientWidth) return; // not laid out: print
  size = canvas.clientWidth;
  const pen = penOn(plotted, size);
  drawAxes(pen);
  clipToFrame(pen);
  drawPoints(pen);
  for (const swatch of root.querySelectorAll(".swatch")) drawMark(penOn(swatch, 16), Number(swatch.dataset.type), 8, 6);
  paint();
}

/** What is plotted, the rectangle over it, and the diagonal over both. */
function paint() {
  const pen = penOn(canvas, size);
  pen.drawImage(plotted, 0, 0, size, size);
  if (isBounded()) drawRectangle(pen);
  clipToFrame(pen);
  drawDiagonal(pen);
}

function drawRectangle(pen) {
  const { x, y } = rectangle();
  const sides = [across(x.from), up(y.to), across(x.to) - across(x.from), up(y.from) - up(y.to)];
  const isEmpty = isCrossed("x") || isCrossed("y");
  pen.beginPath();
  pen.rect(across(low), up(high), across(high) - across(low), up(low) - up(high));
  if (!isEmpty) pen.rect(...sides);
  pen.fillStyle = colour("paper");
  pen.globalAlpha = 0.75;
  pen.fill("evenodd");
  pen.globalAlpha = 1;
  if (isEmpty) return;
  pen.strokeStyle = pen.fillStyle = colour("accent");
  pen.lineWidth = 2;
  pen.strokeRect(...sides);
  for (const left of [sides[0], sides[0] + sides[2]]) {
    for (const top of [sides[1], sides[1] + sides[3]]) pen.fillRect(left - 4, top - 4, 8, 8);
  }
}
