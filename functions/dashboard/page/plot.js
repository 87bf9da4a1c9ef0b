// Stacked bars over time, as SVG that can be read, styled and asserted.
import { hours, moment } from "./format.js";
import { element, nameOf } from "./table.js";

// Okabe and Ito's palette without black: told apart by colour-blind eyes, and readable on light and dark paper.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7570b3"];
const SIZE = { height: 260, left: 48, right: 8, top: 12, bottom: 24 };

// A name keeps its colour whatever else is shown; of two that would share one, the later takes the next free.
export const coloursOf = (names) => {
  const colours = new Map();
  for (const name of names.toSorted()) {
    let at = [...name].reduce((hash, letter) => (hash * 31 + letter.codePointAt(0)) >>> 0, 7) % PALETTE.length;
    for (let tries = 0; tries < PALETTE.length && [...colours.values()].includes(PALETTE[at]); tries++) at = (at + 1) % PALETTE.length;
    colours.set(name, PALETTE[at]);
  }
  return colours;
};

const tickTime = (stepSeconds) => d3.utcFormat(stepSeconds < 3600 ? "%H:%M" : stepSeconds < 21600 ? "%H:%M" : "%d %b");

export const drawPlot = (place, legend, data, by, measure) => {
  const names = [...new Set(data.series.map((point) => point[by]))];
  const colours = coloursOf(names);
  const width = Math.max(280, place.clientWidth);
  const [from, until] = [new Date(data.from), new Date(data.until)];
  const bars = d3.group(data.series.filter((point) => point[measure.name] > 0), (point) => point.at);
  const highest = d3.max(bars.values(), (points) => d3.sum(points, (point) => point[measure.name])) ?? 0;
  const x = d3.scaleUtc([from, until], [SIZE.left, width - SIZE.right]);
  const y = d3.scaleLinear([0, highest || 1], [SIZE.height - SIZE.bottom, SIZE.top]).nice(4);
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${SIZE.height}`).attr("role", "img");
  svg.attr("aria-label", `${measure.label} by ${by}, ${moment(data.from)} to ${moment(data.until)}; the table below has the sums`);
  drawAxes(svg, x, y, width, data.step_seconds);
  for (const [at, points] of bars) drawBar(svg, { at, points, by, measure, x, y, colours, step: data.step_seconds * 1000, until });
  place.replaceChildren(svg.node());
  legend.replaceChildren(...names.toSorted().map((name) => legendEntry(name, colours.get(name))));
};

const drawAxes = (svg, x, y, width, stepSeconds) => {
  const bottom = d3.axisBottom(x).ticks(Math.max(2, width / 110)).tickFormat(tickTime(stepSeconds)).tickSizeOuter(0);
  const left = d3.axisLeft(y).ticks(4).tickSize(-(width - SIZE.left - SIZE.right));
  svg.append("g").attr("transform", `translate(0,${SIZE.height - SIZE.bottom})`).attr("aria-hidden", "true").call(bottom);
  svg.append("g").attr("transform", `translate(${SIZE.left},0)`).attr("aria-hidden", "true").call(left).select(".domain").remove();
};

const drawBar = (svg, { at, points, by, measure, x, y, colours, step, until }) => {
  const begin = new Date(at);
  const end = new Date(Math.min(begin.getTime() + step, until.getTime()));
  let stacked = 0;
  for (const point of points.toSorted((a, b) => d3.ascending(a[by], b[by]))) {
    const value = point[measure.name];
    const bar = svg.append("rect").attr("class", "bar").attr("fill", colours.get(point[by]));
    bar.attr("x", x(begin) + 0.5).attr("width", Math.max(1, x(end) - x(begin) - 1));
    bar.attr("y", y(stacked + value)).attr("height", Math.max(0, y(stacked) - y(stacked + value)));
    bar.attr("data-name", point[by]).attr("data-at", at).attr("data-value", value);
    bar.append("title").text(`${point[by]}\n${moment(at)}\n${hours(value)} ${measure.label.toLowerCase()}`);
    stacked += value;
  }
};

const legendEntry = (name, colour) => {
  const square = d3.create("svg").attr("viewBox", "0 0 10 10").attr("aria-hidden", "true");
  square.append("rect").attr("width", 10).attr("height", 10).attr("rx", 2).attr("fill", colour);
  return element("li", {}, square.node(), nameOf(name));
};
