// Which sections are open stands in the address, the one opened last at its end: #information+training.

const folds = [...document.querySelectorAll("details.fold")];
const nameOfFold = (fold) => fold.querySelector("section").id;
let unfolded = []; // names, in the order in which they were opened

function openNamed() {
  const named = decodeURIComponent(location.hash.slice(1)).split("+");
  const last = named.map((name) => folds.find((fold) => nameOfFold(fold) === name)).filter(Boolean);
  for (const fold of last) fold.open = true;
  last.at(-1)?.scrollIntoView();
}

for (const fold of folds) {
  fold.addEventListener("toggle", () => {
    unfolded = unfolded.filter((name) => name !== nameOfFold(fold));
    if (fold.open) unfolded.push(nameOfFold(fold));
    history.replaceState(null, "", unfolded.length ? `#${unfolded.join("+")}` : location.pathname + location.search);
  });
}
addEventListener("hashchange", openNamed);
openNamed();
