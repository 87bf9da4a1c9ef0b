// The pictures, as SVG that can be read, styled and asserted. Observable Plot draws them.
import { FAILED } from "./colours.js";
import { count, hours, share } from "./format.js";
import {
  areaY,
  axisX,
  axisY,
  barX,
  dot,
  gridY,
  lineY,
  plot,
  rectY,
  ruleY,
  select,
  stackX,
  stackY,
  text,
} from "./plot.min.js";
import { isOwn, tick } from "./zone.js";

const HEIGHT = 250;
const MARGINS = { marginTop: 14, marginRight: 18, marginBottom: 26, marginLeft: 46 };
const ROW_HEIGHT = 26;
const LETTER_WIDTH = 6.4;
const COLOURS = { color: { type: "identity" } };

const picture = (options, label) => {
  const svg = plot({ height: HEIGHT, ...MARGINS, ...options });
  // Only the whole has a spoken name: its parts have no role that could have one.
  for (const part of svg.querySelectorAll("[aria-label]")) {
    part.dataset.part = part.getAttribute("aria-label");
    part.removeAttribute("aria-label");
  }
  return select(svg).attr("role", "img").attr("aria-label", label).node();
};

const timeScale = ({ from, until }) => ({ type: isOwn() ? "time" : "utc", domain: [new Date(from), new Date(until)] });

const timeAxis = (width) => axisX({ ticks: Math.max(2, width / 110), tickFormat: tick, label: null, tickSize: 4 });

const shortened = (value) =>
  value >= 10_000 ? `${count(value / 1000)}k` : Number.isInteger(value) ? count(value) : hours(value);

const valueAxis = ({ whole, isShare }, most) => {
  const tickFormat = isShare ? (value) => share(value).replace(".0 %", " %") : shortened;
  const ticks = whole && most < 5 ? [...Array(Math.ceil(most) + 1).keys()] : 4;
  return [gridY({ ticks, strokeOpacity: 0.15 }), axisY({ ticks, tickFormat, label: null, tickSize: 0 })];
};

// Names a drawn shape by its row, so that a click, a test and an export can tell what it is.
const annotate = (svg, group, className, rows) => {
  const shapes = select(svg).selectAll(`.${group} > *`).classed(className, true);
  shapes.attr("data-name", (at) => rows[at].name).attr("data-value", (at) => rows[at].value);
  shapes.attr("data-at", (at) => rows[at].at ?? null);
  return svg;
};

const timed = (points) => points.map((point) => ({ ...point, begin: new Date(point.at), end: new Date(point.until) }));

const mostOf = (bars) => {
  const sums = new Map();
  for (const { at, value } of bars) sums.set(at, (sums.get(at) ?? 0) + value);
  return Math.max(0, ...sums.values());
};

// Bars over time, each on those of its moment that come before: points {name, at, until, value, colour}.
export const stackedBars = (width, { points, label, ...span }) => {
  const bars = timed(points.filter(({ value }) => value > 0));
  const most = mostOf(bars) || 1;
  const boxes = {
    x1: "begin",
    x2: "end",
    y: "value",
    fill: "colour",
    className: "bars",
    insetLeft: 0.5,
    insetRight: 0.5,
  };
  const marks = [
    ...valueAxis(span, most),
    timeAxis(width),
    rectY(bars, stackY(boxes)),
    ruleY([0], { strokeOpacity: 0.4 }),
  ];
  const svg = picture({ width, x: timeScale(span), y: { domain: [0, most], nice: 4 }, ...COLOURS, marks }, label);
  return annotate(svg, "bars", "bar", bars);
};

// A line for each name, broken where its value is not known: points as above, and dashed.
export const lines = (width, { points, label, ...span }) => {
  // A sum so far is reached at its step's end; all else is of the whole step.
  const middleOf = ({ begin, end, isSum }) => (isSum ? end : new Date((+begin + +end) / 2));
  const middles = timed(points).map((point) => ({ ...point, middle: middleOf(point) }));
  const ends = middles.filter(({ value }) => value !== null);
  const most = Math.max(span.isShare ? 0.1 : 0, ...ends.map(({ value }) => value)) || 1;
  const drawn = (dashed) => middles.filter((point) => Boolean(point.dashed) === dashed);
  const channels = { x: "middle", y: "value", z: "name", stroke: "colour", strokeWidth: 2, className: "lines" };
  const marks = [
    ...valueAxis(span, most),
    timeAxis(width),
    lineY(drawn(false), channels),
    lineY(drawn(true), { ...channels, strokeDasharray: "5 3" }),
    dot(ends, { x: "middle", y: "value", fill: "colour", r: 2.5, className: "dots" }),
  ];
  const svg = picture({ width, x: timeScale(span), y: { domain: [0, most], nice: 4 }, ...COLOURS, marks }, label);
  return annotate(svg, "dots", "dot", ends);
};

const cut = (label, most) => ([...label].length > most ? `${[...label].slice(0, most - 1).join("")}…` : label);

const nameAxis = (labels, width) => {
  const longest = Math.max(4, ...labels.map((label) => [...label].length)) * LETTER_WIDTH + 12;
  const marginLeft = Math.min(longest, Math.max(90, width * 0.4));
  const most = Math.floor((marginLeft - 8) / LETTER_WIDTH);
  return { marginLeft, axis: axisY({ label: null, tickSize: 0, tickFormat: (at) => cut(labels[at], most) }) };
};

// A row for each name and a cell for each step, the redder the greater its share: points {name, at, until, value}.
export const heatMap = (width, { points, names, label, ...span }) => {
  const { marginLeft, axis } = nameAxis(names, width);
  const cells = timed(points.filter(({ value }) => value !== null));
  const rows = cells.map((cell) => ({ ...cell, row: names.indexOf(cell.name), strength: 0.06 + 0.94 * cell.value }));
  const boxes = {
    x1: "begin",
    x2: "end",
    y: "row",
    inset: 0.5,
    fill: FAILED,
    fillOpacity: "strength",
    className: "cells",
  };
  const scale = timeScale(span);
  const narrowest = Math.min(...cells.map(({ begin, end }) => end - begin)) / (scale.domain[1] - scale.domain[0]);
  const written = narrowest * (width - marginLeft) > 20 ? rows : [];
  const numbers = {
    x: (cell) => new Date((+cell.begin + +cell.end) / 2),
    y: "row",
    text: (cell) => Math.floor(cell.value * 100),
  };
  const options = {
    width,
    height: names.length * ROW_HEIGHT + MARGINS.marginTop + MARGINS.marginBottom,
    marginLeft,
    x: scale,
    y: { type: "band", domain: [...names.keys()], padding: 0 },
    opacity: { type: "identity" },
    marks: [timeAxis(width - marginLeft), axis, barX(rows, boxes), text(written, { ...numbers, className: "numbers" })],
  };
  return annotate(picture(options, label), "cells", "cell", rows);
};

// A row for each label, its bar in parts: rows {label}, parts {row, name, value, colour}.
export const ranking = (width, { labels, parts, label }) => {
  const { marginLeft, axis } = nameAxis(labels, width);
  const bars = parts.filter(({ value }) => value > 0);
  const boxes = { y: "row", x: "value", fill: "colour", insetTop: 3, insetBottom: 3, className: "bars" };
  const options = {
    width,
    height: labels.length * ROW_HEIGHT + MARGINS.marginTop + MARGINS.marginBottom,
    marginLeft,
    x: { nice: true, label: null },
    y: { type: "band", domain: [...labels.keys()], padding: 0 },
    ...COLOURS,
    marks: [axisX({ ticks: 4, tickFormat: shortened, label: null, tickSize: 4 }), axis, barX(bars, stackX(boxes))],
  };
  const svg = annotate(picture(options, label), "bars", "bar", bars);
  select(svg)
    .selectAll(".bars > *")
    .attr("data-row", (at) => bars[at].row);
  return svg;
};

// Buckets of one quantity: bars {bucket, name, value, colour}; edges are the words at their borders.
export const histogram = (width, { bars: all, edges, label }) => {
  const bars = all.filter(({ value }) => value > 0);
  const most = mostOf(bars.map(({ bucket, value }) => ({ at: bucket, value }))) || 1;
  const boxes = {
    x1: "bucket",
    x2: ({ bucket }) => bucket + 1,
    y: "value",
    fill: "colour",
    inset: 0.5,
    className: "bars",
  };
  const every = Math.max(1, Math.ceil((edges.length * 56) / width));
  const ticks = [...edges.keys()].filter((at) => at % every === 0);
  const options = {
    width,
    height: 200,
    x: { type: "linear", domain: [0, edges.length - 1] },
    y: { domain: [0, most], nice: 4 },
    ...COLOURS,
    marks: [
      ...valueAxis({ whole: true }, most),
      axisX({ ticks, tickFormat: (at) => edges[at], label: null, tickSize: 4 }),
      rectY(bars, stackY(boxes)),
    ],
  };
  return annotate(picture(options, label), "bars", "bar", bars);
};

// A small curve without axes: points {at, until, value} of a share.
export const sparkline = ({ points, from, until, label }) => {
  const middles = timed(points).map((point) => ({ ...point, middle: new Date((+point.begin + +point.end) / 2) }));
  const options = {
    width: 104,
    height: 26,
    marginTop: 3,
    marginRight: 1,
    marginBottom: 1,
    marginLeft: 1,
    x: { ...timeScale({ from, until }), axis: null },
    y: { domain: [0, 1], axis: null },
    marks: [
      ruleY([0], { strokeOpacity: 0.3 }),
      areaY(middles, { x: "middle", y: "value", fill: FAILED, fillOpacity: 0.25 }),
      lineY(middles, { x: "middle", y: "value", stroke: FAILED, strokeWidth: 1.5 }),
    ],
  };
  return picture(options, label);
};
