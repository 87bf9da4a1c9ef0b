// A table that the server orders and cuts.
import { say, sayName } from "./dom.js";
import { UNKNOWN, text } from "./format.js";
import { ANEW, address } from "./state.js";

const WAYS = { up: "ascending", down: "descending" };

export const drawTable = (place, display, rows, sort, empty, sortBy) => {
  const table = d3.select(place).selectAll("table").data(rows.length ? [display] : [], ({ label }) => label).join(skeleton);
  drawHead(table.select("thead tr"), display.columns, sort.split("-"), sortBy);
  drawCells(table.select("tbody").selectAll("tr").data(rows, display.key).join("tr").order().attr("role", "row"), display.columns);
  d3.select(place).selectAll("p").data(rows.length ? [] : [empty]).join("p").call(say, (sentence) => sentence);
};

// On narrow screens the style lays rows out as cards, which takes a table's own roles away: hence they are said.
const skeleton = (enter) => {
  const table = enter.append("table").attr("role", "table").attr("aria-labelledby", "listing-title");
  table.append("thead").attr("role", "rowgroup").append("tr").attr("role", "row");
  table.append("tbody").attr("role", "rowgroup");
  return table;
};

const drawHead = (row, columns, [sorted, way], sortBy) => {
  const heads = row.selectAll("th").data(columns, ({ name }) => name).join((enter) => {
    const head = enter.append("th").attr("role", "columnheader").attr("scope", "col").attr("data-column", ({ name }) => name);
    head.attr("data-kind", kindOf);
    head.append("button").attr("type", "button").attr("title", ({ help }) => help ?? null).text(({ label }) => label);
    return head;
  });
  heads.attr("aria-sort", ({ name }) => (name === sorted ? WAYS[way] : null));
  heads.select("button").on("click", (_, column) => sortBy(`${column.name}-${column.name === sorted ? other(way) : first(column)}`));
};

const other = (way) => (way === "up" ? "down" : "up");

const first = (column) => (kindOf(column) === "words" ? "up" : "down");

const kindOf = ({ format, moment, words }) => (moment ? "moment" : format === text || words ? "words" : "number");

const drawCells = (rows, columns) => {
  const cells = rows.selectAll("th, td").data((row) => columns.map((column) => datum(column, row)), ({ column }) => column.name).join(cell);
  cells.attr("class", toneOf).attr("title", ({ column, row, written }) => (written === UNKNOWN ? "not known" : column.about?.(row) ?? null));
  cells.filter(({ column, to }) => !column.named && !to).call(say, ({ written }) => written);
  cells.filter(({ column, to }) => column.named && !to).call(sayName, ({ written }) => written);
  const links = cells.filter(({ to }) => to).selectAll("a").data((one) => [one]).join("a");
  links.attr("href", ({ to }) => address({ ...ANEW, ...to })).call(sayName, ({ written }) => written);
};

const datum = (column, row) => ({ column, row, value: row[column.name], written: column.format(row[column.name], row), to: column.opens?.(row) });

const cell = (enter) => {
  const cells = enter.append((_, at) => document.createElement(at === 0 ? "th" : "td"));
  cells.attr("role", (_, at) => (at === 0 ? "rowheader" : "cell")).attr("scope", (_, at) => (at === 0 ? "row" : null));
  cells.attr("data-column", ({ column }) => column.name).attr("data-kind", ({ column }) => kindOf(column));
  return cells.attr("data-label", ({ column }) => column.label);
};

const toneOf = ({ column, value, written }) => {
  if (written === UNKNOWN) return "unknown";
  return column.odd?.(value) ? "odd" : null;
};
