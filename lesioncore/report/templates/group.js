"use strict";

// Sorting of the table by the column whose head is clicked.
const body = document.querySelector("#scans tbody");
for (const head of document.querySelectorAll("#scans th.sortable")) {
  head.tabIndex = 0;
  const sort = () => {
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of document.querySelectorAll("#scans th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = (row) => row.cells[column].textContent.trim();
    const compare = head.classList.contains("number")
      ? (a, b) => (Number(text(a)) || 0) - (Number(text(b)) || 0)
      : (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
    const rows = [...body.rows].sort(compare);
    body.append(...(down ? rows.reverse() : rows));
  };
  head.addEventListener("click", sort);
  head.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sort();
  });
}
