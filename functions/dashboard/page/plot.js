// Stacked bars over time, as SVG that can be read, styled and asserted.
import { colourOf, defineHatches } from "./colours.js";
import { say, sayName } from "./dom.js";
import { byName, hours, moment } from "./format.js";

const SIZE = { height: 260, left: 44, right: 20, top: 12, bottom: 24 };

export const drawPlot = (place, legend, data, by, measure) => {
  const names = [...new Set(data.series.map((point) => point[by]))].sort(byName);
  const bars = stack(data.series, by, measure.name);
  const width = Math.max(280, place.clientWidth);
  const x = d3.scaleUtc([new Date(data.from), new Date(data.until)], [SIZE.left, width - SIZE.right]);
  const y = d3.scaleLinear([0, d3.max(bars, ({ top }) => top) || 1], [SIZE.height - SIZE.bottom, SIZE.top]).nice(4);
  const svg = d3.select(place).selectAll("svg").data([data]).join(skeleton).attr("viewBox", `0 0 ${width} ${SIZE.height}`);
  svg.attr("aria-label", `${measure.label} by ${by}, ${moment(data.from)} to ${moment(data.until)}. The table has the sums.`);
  names.forEach(colourOf);
  drawAxes(svg, x, y, width, measure);
  drawBars(svg.select(".bars"), bars, x, y, measure);
  drawLegend(legend, names);
};

// Each bar stands on those of its moment whose names come before.
const stack = (series, by, measure) => {
  const tops = new Map();
  const points = series.filter((point) => point[measure] > 0).toSorted((a, b) => byName(a[by], b[by]));
  return points.map((point) => {
    const bottom = tops.get(point.at) ?? 0;
    tops.set(point.at, bottom + point[measure]);
    return { name: point[by], at: point.at, until: point.until, value: point[measure], bottom, top: bottom + point[measure] };
  });
};

const skeleton = (enter) => {
  const svg = enter.append("svg").attr("role", "img");
  defineHatches(svg);
  for (const part of ["x axis", "y axis", "bars"]) svg.append("g").attr("class", part);
  return svg;
};

const drawAxes = (svg, x, y, width, { whole }) => {
  const bottom = d3.axisBottom(x).ticks(Math.max(2, width / 110)).tickFormat(tickTime).tickSizeOuter(0);
  const steps = y.ticks(4).filter((tick) => !whole || Number.isInteger(tick));
  const left = d3.axisLeft(y).tickValues(steps).ticks(4, y.domain()[1] >= 10_000 ? "~s" : whole ? "d" : undefined).tickSize(-(width - SIZE.left - SIZE.right));
  svg.select(".x").attr("transform", `translate(0,${SIZE.height - SIZE.bottom})`).call(bottom);
  svg.select(".y").attr("transform", `translate(${SIZE.left},0)`).call(left).select(".domain").remove();
};

const tickTime = (time) => d3.utcFormat(time.getUTCHours() || time.getUTCMinutes() ? "%H:%M" : "%-d %b")(time);

const drawBars = (place, bars, x, y, measure) => {
  const begin = ({ at }) => x(new Date(at));
  const end = ({ until }) => x(new Date(until));
  const drawn = place.selectAll("rect").data(bars, ({ name, at }) => JSON.stringify([name, at])).join(newBar);
  drawn.attr("x", (bar) => begin(bar) + 0.5).attr("width", (bar) => Math.max(1, end(bar) - begin(bar) - 1));
  drawn.attr("y", ({ top }) => y(top)).attr("height", ({ bottom, top }) => y(bottom) - y(top)).attr("data-value", ({ value }) => value);
  drawn.select("title").call(say, ({ name, at, value }) => `${name}\n${moment(at)}\n${hours(value)} ${measure.unit}`);
};

const newBar = (enter) => {
  const bars = enter.append("rect").attr("class", "bar").attr("fill", ({ name }) => colourOf(name));
  bars.attr("data-name", ({ name }) => name).attr("data-at", ({ at }) => at).append("title");
  return bars;
};

const drawLegend = (place, names) => {
  const entries = d3.select(place).selectAll("li").data(names, (name) => name).join((enter) => {
    const entry = enter.append("li");
    const square = entry.append("svg").attr("viewBox", "0 0 10 10").attr("aria-hidden", "true");
    square.append("rect").attr("width", 10).attr("height", 10).attr("rx", 2).attr("fill", colourOf);
    return entry;
  });
  entries.call(sayName, (name) => name);
};
