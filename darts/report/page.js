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
