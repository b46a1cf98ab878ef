// The selection in numbers, and its pairs a few at a time.

const LISTED = 10; // pairs at a time
const listing = find("#selected");
const whole = (value) => new Intl.NumberFormat("en").format(value);
const rounded = (value) => Number(value.toFixed(3)) || 0; // (no -0)
const number = (value) => (Number.isFinite(value) ? rounded(value).toFixed(3).replace("-", "−") : "–");
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const percent = (part, all) => (all ? `${((100 * part) / all).toFixed(0)}%` : "–");
const mean = (rows, values) => rows.reduce((sum, i) => sum + values[i], 0) / rows.length; // NaN of none

function element(tag, ...content) {
  const made = document.createElement(tag);
  made.append(...content);
  return made;
}

const facts = (pairs) => pairs.map(([name, value]) => element("div", element("dt", name), element("dd", value)));

let saying = 0;

function describe(rows) {
  const { gap, query_type, chosen_weight, rejected_weight, pair_scale } = columns;
  const share = (type) => percent(rows.filter((i) => query_type[i] === type).length, rows.length);
  const selected = `${whole(rows.length)} of ${whole(store.pairs)} pairs`;
  const fault = isCrossed("x") || isCrossed("y") ? " (a lower bound is above its upper one)" : "";
  const meanGap = `${signed(mean(rows, gap))} nats/token`;
  find("#selection").replaceChildren(
    ...facts([
      ["selected", selected + fault],
      ["mean gap", meanGap],
      ["chosen higher", percent(rows.filter((i) => gap[i] > 0).length, rows.length)],
      ["query types", store.query_types.map((name, type) => `${name} ${share(type)}`).join(", ")],
      ["mean weight, chosen", number(mean(rows, chosen_weight))],
      ["mean weight, rejected", number(mean(rows, rejected_weight))],
      ["mean pair scale", number(mean(rows, pair_scale))],
    ]),
  );
  listing.querySelector("summary").textContent = `List the selected pairs (${whole(rows.length)})`;
  for (const axis of ["x", "y"]) {
    for (const input of Object.values(inputs[axis])) input.setAttribute("aria-invalid", String(isCrossed(axis)));
  }
  clearTimeout(saying); // said when a drag rests, not at its every step
  saying = setTimeout(() => {
    find("#scatter [role=status]").textContent = `${selected} selected${fault}. Mean gap ${meanGap}.`;
  }, 500);
}

let listed = 0; // first of the pairs listed
let turns = 0; // lists begun
let ids = null; // of all pairs, unpacked for the first list

/** List the pairs of `rows` from the `listed`-th on, where the list is open. */
async function list(rows) {
  if (!listing.open) return;
  const turn = ++turns;
  ids ??= unpackedList(store.ids);
  const names = await ids;
  if (turn !== turns) return; // another selection was made meanwhile
  const { gap, text } = columns;
  const shown = find("#with-texts")?.checked ? rows.filter((i) => text[i] >= 0) : [...rows];
  shown.sort((one, other) => Math.abs(gap[other]) - Math.abs(gap[one]) || one - other);
  const last = Math.min(listed + LISTED, shown.length);
  listing.querySelector("ol").replaceChildren(...shown.slice(listed, last).map((i) => pair(i, names[i])));
  listing.querySelector(".pager span").textContent = shown.length
    ? `${whole(listed + 1)} to ${whole(last)} of ${whole(shown.length)}`
    : "none";
  find("#previous").setAttribute("aria-disabled", String(listed === 0));
  find("#next").setAttribute("aria-disabled", String(last === shown.length));
}

/** A pair's entry in the list: its numbers, and a button for each of its texts. */
function pair(i, id) {
  const { x, y, gap, chosen_weight, rejected_weight, pair_scale, source, source_row, text } = columns;
  const about = facts([
    ["query", nameOf("query_type", i)],
    ["side", nameOf("side", i)],
    ["gap", `${signed(gap[i])} nats/token`],
    ["MI chosen / rejected", [y, x].map((values) => number(values[i])).join(" / ")],
    ["weights chosen / rejected", [chosen_weight, rejected_weight].map((values) => number(values[i])).join(" / ")],
    ["pair scale", number(pair_scale[i])],
    ["source", `${store.sources[source[i]]}, row ${Number.isNaN(source_row[i]) ? "–" : source_row[i]}`],
  ]);
  const made = element("li", element("code", id), element("dl", ...about));
  if (text[i] < 0) made.append(element("p", "Its texts are not on this page."));
  else made.append(...["prompt", "chosen response", "rejected response"].flatMap((what, part) => masked(i, part, what)));
  return made;
}

/** A button and the box for its text, as in the section Examples. */
function masked(i, part, what) {
  const button = element("button", `Show the ${what}`);
  const box = element("div", "masked");
  button.type = "button";
  box.id = `selected-${i}-${part}`;
  box.className = "text masked";
  box.dir = "auto";
  Object.assign(button.dataset, { text: columns.text[i], part });
  button.setAttribute("aria-expanded", "false");
  button.setAttribute("aria-controls", box.id);
  return [button, box];
}

function turnBy(pairs, event) {
  if (event.currentTarget.getAttribute("aria-disabled") === "true") return; // it keeps the focus at the list's end
  listed += pairs;
  list(selection());
}
