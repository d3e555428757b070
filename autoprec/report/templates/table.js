"use strict";
(() => {
  const few = 25;
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.n;
    return number === undefined || number === "" ? cell.textContent.trim() : Number(number);
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number") return -1;
    if (typeof b === "number") return 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  const sortBy = (table, heading, column) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row, column), row]);
    rows.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
    body.append(...rows.map((pair) => pair[1]));
  };
  const addTools = (table) => {
    const tools = document.createElement("div");
    tools.className = "tools";
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "filter rows";
    search.setAttribute("aria-label", "filter rows");
    const all = document.createElement("button");
    all.type = "button";
    const rows = [...table.tBodies[0].rows];
    const show = (short) => {
      table.classList.toggle("short", short);
      all.textContent = short ? `show all ${rows.length} rows` : `show ${few} rows`;
    };
    all.addEventListener("click", () => show(!table.classList.contains("short")));
    search.addEventListener("input", () => {
      const wanted = search.value.toLowerCase();
      show(wanted === "");
      for (const row of rows) row.classList.toggle("away", !row.textContent.toLowerCase().includes(wanted));
    });
    tools.append(search, all);
    table.parentElement.before(tools);
    show(true);
  };
  for (const table of document.querySelectorAll("table")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort by this column";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sortBy(table, heading, column));
    });
    if (Number(table.dataset.rows) > few) addTools(table);
  }
})();
