// A table that the server orders and cuts; and small ones that stand as they came.
import { say, sayName } from "./dom.js";
import { UNKNOWN, text } from "./format.js";
import { select } from "./plot.min.js";
import { rowAddress } from "./state.js";
import { zoneName } from "./zone.js";

const WAYS = { up: "ascending", down: "descending" };

// Options: title, the id of its heading; sort and sortBy, where it can be sorted; open and openRow, where a row opens.
export const drawTable = (place, display, rows, empty, options) => {
  const table = select(place)
    .selectAll("table")
    .data(rows.length ? [display] : [], ({ label }) => label)
    .join(skeleton);
  table.attr("aria-labelledby", options.title);
  const columns = display.columns.filter((column) => column.draw || rows.some((row) => column.name in row));
  drawHead(table.select("thead tr"), columns, options);
  const shown = rows.flatMap((row) => (isOpen(display, row, options) ? [row, { detailOf: row }] : [row]));
  const key = (row) => (row.detailOf ? `detail ${display.key(row.detailOf)}` : display.key(row));
  const lines = table.select("tbody").selectAll("tr").data(shown, key).join("tr").order().attr("role", "row");
  const isDetail = ({ detailOf }) => detailOf !== undefined;
  drawCells(
    lines.filter((row) => !isDetail(row)),
    columns,
    display,
    options,
  );
  drawDetails(lines.filter(isDetail).attr("class", "detail"), columns.length, display);
  select(place)
    .selectAll("p")
    .data(rows.length ? [] : [empty])
    .join("p")
    .call(say, (sentence) => sentence);
};

const isOpen = (display, row, { open }) => display.detail && open && display.key(row) === open;

// On narrow screens the style lays rows out as cards, which takes a table's own roles away: hence they are written.
const skeleton = (enter) => {
  const table = enter.append("table").attr("role", "table");
  table.append("thead").attr("role", "rowgroup").append("tr").attr("role", "row");
  table.append("tbody").attr("role", "rowgroup");
  return table;
};

const labelOf = ({ label, isTime }) => (isTime ? `${label} (${zoneName()})` : label);

const drawHead = (row, columns, { sort = "", sortBy }) => {
  const [sorted, way] = sort.split("-");
  const isFixed = (column) => !sortBy || column.isFixed;
  const heads = row
    .selectAll("th")
    .data(columns, (column) => `${column.name} ${isFixed(column)}`)
    .join((enter) => {
      const head = enter.append("th").attr("role", "columnheader").attr("scope", "col");
      head.attr("data-column", ({ name }) => name).attr("data-kind", kindOf);
      head.append((column) => document.createElement(isFixed(column) ? "span" : "button"));
      head.select("button").attr("type", "button");
      return head;
    });
  heads.order().attr("aria-sort", ({ name }) => (name === sorted ? WAYS[way] : null));
  heads
    .select("button, span")
    .attr("title", ({ help }) => help ?? null)
    .call(say, labelOf);
  const other = { up: "down", down: "up" };
  const next = (column) => (column.name === sorted ? other[way] : kindOf(column) === "words" ? "up" : "down");
  heads.select("button").on("click", (_, column) => sortBy(`${column.name}-${next(column)}`));
};

const kindOf = ({ format, isTime, isWord }) => (isTime ? "moment" : format === text || isWord ? "words" : "number");

const drawCells = (rows, columns, display, options) => {
  const cellsOf = (row) => columns.map((column) => datum(column, row, options.data));
  const cells = rows
    .selectAll("th, td")
    .data(cellsOf, ({ column }) => column.name)
    .join(newCell)
    .order();
  cells
    .attr("class", toneOf)
    .attr("title", ({ column, row, written }) => (written === UNKNOWN ? "not known" : (column.about?.(row) ?? null)));
  cells.classed("wraps", ({ column }) => column.wraps === true);
  const plain = cells.filter(({ column, to }, at) => !to && !column.draw && !(display.detail && at === 0));
  plain.filter(({ column }) => !column.isName).call(say, ({ written }) => written);
  plain.filter(({ column }) => column.isName).call(sayName, ({ written }) => written);
  const links = cells
    .filter(({ to }) => to)
    .selectAll("a")
    .data((value) => [value])
    .join("a");
  links.attr("href", ({ to }) => rowAddress(to));
  links.call(sayName, ({ written }) => written);
  cells
    .filter(({ column }) => column.draw)
    .each(function draw({ column, row }) {
      this.replaceChildren(...[column.draw(row, options.data)].filter(Boolean));
    });
  if (display.detail)
    drawOpeners(
      cells.filter((_, at) => at === 0),
      display,
      options,
    );
};

const drawOpeners = (cells, display, { open, openRow }) => {
  const buttons = cells
    .selectAll("button")
    .data((value) => [value])
    .join("button")
    .attr("type", "button");
  const key = ({ row }) => display.key(row);
  buttons.attr("class", "opener").attr("aria-expanded", (value) => String(key(value) === open));
  buttons.attr("title", "all that is known of it").call(sayName, ({ written }) => written);
  buttons.on("click", (_, value) => openRow(key(value) === open ? "" : key(value)));
};

const drawDetails = (rows, width, display) => {
  const cells = rows
    .selectAll("td")
    .data(({ detailOf }) => [display.detail(detailOf)])
    .join((enter) => {
      const cell = enter.append("td").attr("role", "cell");
      cell.append("pre").attr("class", "raw").attr("dir", "auto");
      cell.append("div").attr("class", "links");
      cell.append("dl");
      return cell;
    });
  cells
    .attr("colspan", width)
    .select("pre")
    .call(say, (detail) => detail.text);
  const links = cells
    .select(".links")
    .selectAll("a")
    .data((detail) => detail.links)
    .join("a")
    .attr("href", ({ url }) => url);
  links
    .attr("target", "_blank")
    .attr("rel", "noopener noreferrer")
    .call(say, ({ title }) => `${title} ↗`);
  const facts = cells
    .select("dl")
    .selectAll("div")
    .data((detail) => detail.facts)
    .join((enter) => {
      const fact = enter.append("div");
      fact.append("dt");
      fact.append("dd");
      return fact;
    });
  facts.select("dt").call(say, ([label]) => label);
  facts.select("dd").call(sayName, ([, value]) => text(value));
};

const datum = (column, row, data) => ({
  column,
  row,
  value: row[column.name],
  written: column.format(row[column.name], row),
  to: column.opens?.(row, data),
});

const newCell = (enter) => {
  const cells = enter.append((_, at) => document.createElement(at === 0 ? "th" : "td"));
  cells.attr("role", (_, at) => (at === 0 ? "rowheader" : "cell")).attr("scope", (_, at) => (at === 0 ? "row" : null));
  cells.attr("data-column", ({ column }) => column.name).attr("data-kind", ({ column }) => kindOf(column));
  return cells.attr("data-label", ({ column }) => labelOf(column));
};

const toneOf = ({ column, row, value, written }) => {
  if (written === UNKNOWN) return "unknown";
  return column.tone?.(row) ?? (column.odd?.(value) ? "odd" : null);
};

// Says that a table goes on beside the screen.
export const hintAt = (place) => {
  const isCut = place.scrollWidth > place.clientWidth + 1;
  place.classList.toggle("cut", isCut);
  const hint = place.parentElement.querySelector(".hint");
  if (hint) hint.hidden = !isCut;
};
