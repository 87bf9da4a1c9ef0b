// A sortable table. Names come from strangers: they are only ever text.
export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// Names may run right to left or on for ever: each is isolated from its neighbours, cut by the style, and whole in its title.
export const nameOf = (value) => element("bdi", { class: "name", title: value }, value);

const order = (column, direction) => (a, b) => {
  const [x, y] = [a[column], b[column]];
  if (x === null || y === null) return (x === null) - (y === null);
  return direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
};

export const drawTable = (place, view, rows, sort, onSort) => {
  if (!rows.length) {
    place.replaceChildren(element("p", { class: "empty" }, view.empty));
    return;
  }
  const [column, direction] = sort ? sort.split("-") : [view.columns[0].name, "up"];
  const sorted = rows.toSorted(order(column, direction === "down" ? -1 : 1));
  const head = view.columns.map((c) => heading(c, c.name === column && direction, onSort));
  const body = sorted.map((row) => element("tr", {}, ...view.columns.map((c, at) => cell(c, row, at))));
  place.replaceChildren(element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)));
};

const heading = (column, direction, onSort) => {
  const button = element("button", { type: "button", title: column.help }, column.label);
  button.addEventListener("click", () => onSort(`${column.name}-${direction === "down" ? "up" : direction === "up" ? "down" : firstWay(column)}`));
  return element("th", { scope: "col", "aria-sort": { up: "ascending", down: "descending" }[direction] ?? "none", "data-column": column.name }, button);
};

const firstWay = (column) => (column.format.name === "text" ? "up" : "down");

const cell = (column, row, at) => {
  const value = row[column.name];
  if (at === 0) return element("th", { scope: "row" }, nameOf(String(value)));
  const attributes = { "data-column": column.name };
  if (column.named && value) return element("td", attributes, nameOf(String(value)));
  if (value === null || value === undefined) Object.assign(attributes, { class: "unknown", title: "not known" });
  else if (value < column.low || value > column.high) attributes.class = "low";
  return element("td", attributes, column.format(value));
};
