// Sorting by a press on a heading: numbers and text each in their own order, what is not known last.
const value = (row, place) => {
  const text = row.cells[place].dataset.value;
  const number = Number(text);
  return text === "" ? null : Number.isNaN(number) ? text : number;
};

const order = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (a < b ? -1 : a > b ? 1 : 0);
};

const sort = (head) => {
  const body = head.closest("table").tBodies[0];
  const now = head.getAttribute("aria-sort");
  const down = now === null ? head.dataset.best !== "low" : now !== "descending"; // the first press: best first
  const rows = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
  rows.sort(([a], [b]) => order(a, b, down ? -1 : 1)).forEach(([, row]) => body.append(row));
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
};

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sort(button.closest("th")));
}

// Curves: a press on a name shows or hides it in both views, pointing at it brings it forward. Bands are of what is in
// front, or of all that show while those are few.
const FEW_BANDS = 6;
const names = [...document.querySelectorAll(".legend button")];
const parts = (kind, curve) => document.querySelectorAll(`.curves g[id$="-${kind}-${curve}"]`);
const curves = [...new Set(names.map((name) => name.dataset.curve))].filter((curve) => curve !== "all");
const shown = new Set(names.filter((name) => name.getAttribute("aria-pressed") === "true").map((name) => name.dataset.curve));

const draw = (front = null) => {
  for (const curve of curves) {
    const visible = shown.has(curve) || curve === front;
    const banded = front === null ? visible && shown.size <= FEW_BANDS : curve === front;
    for (const line of parts("line", curve)) {
      line.style.display = visible ? "inline" : "none";
      line.style.opacity = front === null || curve === front ? 1 : 0.15;
      if (curve === front) line.parentElement.append(line);
    }
    for (const band of parts("band", curve)) band.style.display = banded ? "inline" : "none";
  }
  for (const name of names) {
    if (name.dataset.curve !== "all") name.setAttribute("aria-pressed", String(shown.has(name.dataset.curve)));
  }
};

const press = (curve) => {
  const all = shown.size === curves.length;
  if (curve === "all") curves.forEach((one) => (all ? shown.delete(one) : shown.add(one)));
  else if (!shown.delete(curve)) shown.add(curve);
  draw();
};

for (const name of names) {
  const { curve } = name.dataset;
  name.addEventListener("click", () => press(curve));
  if (curve === "all") continue;
  name.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && draw(curve));
  name.addEventListener("pointerleave", () => draw());
}
if (names.length) draw();

// What is wider than its place says so.
const hint = () => {
  for (const place of document.querySelectorAll(".scroll, figure")) {
    place.previousElementSibling.style.display = place.scrollWidth > place.clientWidth ? "block" : "none";
  }
};
addEventListener("resize", hint);
hint();
