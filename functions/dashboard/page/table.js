// A sortable table.
import { say, sayName } from "./dom.js";
import { UNKNOWN, byName, text } from "./format.js";
import { address } from "./state.js";

const MOST_ROWS = 500;
const WAYS = { up: "ascending", down: "descending" };

export const drawTable = (place, view, rows, sort, sortBy) => {
  const sorting = sortingOf(view, sort);
  const table = d3.select(place).selectAll("table").data(rows.length ? [view] : [], ({ title }) => title).join(skeleton);
  drawHead(table.select("thead tr"), view.columns, sorting, sortBy);
  const shown = rows.toSorted(order(sorting)).slice(0, MOST_ROWS);
  drawCells(table.select("tbody").selectAll("tr").data(shown, view.key).join("tr").attr("role", "row"), view.columns);
  d3.select(place).selectAll("p").data(notes(view, rows)).join("p").call(say, (note) => note);
};

// On narrow screens the style lays rows out as cards, which takes a table's own roles away: hence they are said.
const skeleton = (enter) => {
  const table = enter.append("table").attr("role", "table").attr("aria-label", ({ title }) => title);
  table.append("thead").attr("role", "rowgroup").append("tr").attr("role", "row");
  table.append("tbody").attr("role", "rowgroup");
  return table;
};

const sortingOf = (view, sort) => {
  const [name, way] = (sort || view.sort).split("-");
  return { column: view.columns.find((column) => column.name === name) ?? view.columns[0], way: way === "down" ? "down" : "up" };
};

// What is not known comes last, whichever way.
const order = ({ column, way }) => (a, b) => {
  const [x, y] = [a[column.name] ?? null, b[column.name] ?? null];
  if (x === null || y === null) return (x === null) - (y === null);
  return (way === "down" ? -1 : 1) * (typeof x === "string" ? byName(x, y) : x - y);
};

const drawHead = (row, columns, sorting, sortBy) => {
  const heads = row.selectAll("th").data(columns, ({ name }) => name).join((enter) => {
    const head = enter.append("th").attr("role", "columnheader").attr("scope", "col").attr("data-column", ({ name }) => name);
    head.attr("data-kind", kindOf);
    head.append("button").attr("type", "button").attr("title", ({ help }) => help ?? null).text(({ label }) => label);
    return head;
  });
  heads.attr("aria-sort", (column) => (column === sorting.column ? WAYS[sorting.way] : null));
  heads.select("button").on("click", (_, column) => sortBy(`${column.name}-${nextWay(column, sorting)}`));
};

const kindOf = ({ format }) => (format === text ? "words" : "number");

const nextWay = (column, sorting) => {
  if (column === sorting.column) return sorting.way === "up" ? "down" : "up";
  return kindOf(column) === "words" ? "up" : "down";
};

const drawCells = (rows, columns) => {
  const cells = rows.selectAll("th, td").data((row) => columns.map((column) => ({ column, row, value: row[column.name] }))).join(cell);
  cells.attr("class", toneOf).attr("title", ({ column, value }) => (column.format(value) === UNKNOWN ? "not known" : null));
  const written = ({ column, value }) => column.format(value);
  cells.filter(({ column }) => !column.named).call(say, written);
  cells.filter(({ column }) => column.named && !column.opens).call(sayName, written);
  const links = cells.filter(({ column }) => column.opens).selectAll("a").data((datum) => [datum]).join("a");
  links.attr("href", ({ column, row }) => address(column.opens(row))).call(sayName, written);
};

const cell = (enter) => {
  const cells = enter.append((_, at) => document.createElement(at === 0 ? "th" : "td"));
  cells.attr("role", (_, at) => (at === 0 ? "rowheader" : "cell")).attr("scope", (_, at) => (at === 0 ? "row" : null));
  cells.attr("data-column", ({ column }) => column.name).attr("data-kind", ({ column }) => kindOf(column));
  return cells.attr("data-label", ({ column }) => column.label);
};

const toneOf = ({ column, value }) => {
  if (column.format(value) === UNKNOWN) return "unknown";
  return column.odd?.(value) ? "odd" : null;
};

const notes = (view, rows) => {
  if (!rows.length) return [view.empty];
  return rows.length > MOST_ROWS ? [`These are the first ${MOST_ROWS} of ${rows.length} rows in this order. Choose a cloud to see fewer.`] : [];
};
