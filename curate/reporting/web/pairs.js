// The pairs' numbers, and the selection: two filters and the four bounds of a rectangle, whose inputs hold it.

const find = (selector) => document.querySelector(selector);
const root = find("#scatter");
const filters = { query_type: "query_types", side: "sides" }; // a column, and what its codes stand for
const inputs = {
  x: { from: find("#rejected-from"), to: find("#rejected-to") },
  y: { from: find("#chosen-from"), to: find("#chosen-to") },
};
const bounds = Object.values(inputs).flatMap(Object.values);

/** Column -> typed array; `x` and `y` are the MI of the rejected and of the chosen response, `gap` is y - x. */
const columns = {};

async function readColumns() {
  const arrays = { f8: Float64Array, f4: Float32Array, i4: Int32Array };
  const numbers = await unpacked(store.numbers);
  let start = 0;
  for (const [name, kind] of store.columns) {
    columns[name] = new arrays[kind](numbers, start, store.pairs);
    start += columns[name].byteLength;
  }
  columns.x = columns.rejected_pmi;
  columns.y = columns.chosen_pmi;
  columns.gap = columns.y.map((chosen, i) => chosen - columns.x[i]);
}

const nameOf = (column, i) => store[filters[column]][columns[column][i]];

/** An end, `from` or `to`, of the rectangle's side on an axis; an empty input bounds nothing. */
function bound(axis, end) {
  const value = inputs[axis][end].valueAsNumber;
  return Number.isNaN(value) ? { from: -Infinity, to: Infinity }[end] : value;
}

const isBounded = () => bounds.some((input) => input.value !== "");
const isCrossed = (axis) => bound(axis, "from") > bound(axis, "to");

/** Which pairs the filters let through: a function of a pair's row. */
function passing() {
  const checked = (name) => [...root.querySelectorAll(`input[name=${name}]`)].map((box) => box.checked);
  const [types, sides] = Object.keys(filters).map(checked);
  return (i) => types[columns.query_type[i]] && sides[columns.side[i]];
}

/** The rows selected, in the file's order. */
function selection() {
  const { x, y } = columns;
  const passes = passing();
  const [left, right, bottom, top] = ["x", "y"].flatMap((axis) => [bound(axis, "from"), bound(axis, "to")]);
  const rows = [];
  for (let i = 0; i < store.pairs; i++) {
    if (x[i] >= left && x[i] <= right && y[i] >= bottom && y[i] <= top && passes(i)) rows.push(i);
  }
  return rows;
}
