// From the rows of an answer to what a figure shows:
//   id, title, note; options, chosen, parameter: what it may show instead; draw: its picture of a width;
//   legend: {name, colour, to}; groups: what is read out of it, {title, begin, end, entries, sum}; locate, extent:
//   which group lies under the pointer, and where; open: the view behind a shape; span: whether a drag zooms into it.
import { heatMap, lines, stackedBars } from "./charts.js";
import { colourOf, isDashed, lineColourOf, stateColourOf } from "./colours.js";
import { byName, count, duration, hours, moment, period, share } from "./format.js";

export const STATES = ["finished", "failed", "cancelled", "closed", "other"];
export const NO_NAME = "not known";

// The part of a figure's title that says of whom it is.
export const whom = (state, filters) => {
  const chosen = filters.filter((filter) => state[filter]).map((filter) => `${filter} ${state[filter]}`);
  return chosen.length ? `, of ${chosen.join(", ")}` : "";
};

const nameOf = (row, by) => (row[by] === null || row[by] === undefined ? NO_NAME : String(row[by]));

const namesOf = (rows, by) => [...new Set(rows.map((row) => nameOf(row, by)))].toSorted(byName);

export const formatOf = ({ isShare, whole }) => (isShare ? share : whole ? count : hours);

const stepsOf = (rows) => {
  const steps = new Map(rows.map(({ at, until }) => [at, { at, until }]));
  return [...steps.values()].toSorted((a, b) => (a.at < b.at ? -1 : 1));
};

export const legendOf = (names, colour, open) =>
  names.map((name) => ({ name, colour: colour(name), to: open?.(name) ?? null }));

// What lies on a time axis is read moment by moment, and zoomed into.
const timed = ({ from, until }, groups, linkOf) => ({
  groups,
  span: { from, until },
  locate: (svg, x) =>
    groups.findIndex(({ begin, end }) => svg.scale("x").invert(x) >= begin && svg.scale("x").invert(x) < end),
  extent: (svg, { begin, end }) => ({ left: svg.scale("x").apply(begin), right: svg.scale("x").apply(end) }),
  open: linkOf,
});

const groupsOf = (points, measure, colour, { isSummed = true } = {}) => {
  const format = formatOf(measure);
  return stepsOf(points).map(({ at, until }) => {
    const isRead = ({ value }) => value !== null && (value !== 0 || !isSummed);
    const mine = points.filter((point) => point.at === at && isRead(point));
    const entries = mine
      .toSorted((a, b) => b.value - a.value)
      .map(({ name, value, more }) => ({
        name,
        colour: colour(name),
        written: `${format(value)}${more ? ` ${more}` : ""}`,
      }));
    const sum = isSummed && entries.length > 1 ? format(mine.reduce((total, { value }) => total + value, 0)) : null;
    return { title: period(at, until), begin: new Date(at), end: new Date(until), entries, sum };
  });
};

const label = ({ title, data }) => `${title}, ${moment(data.from)} to ${moment(data.until)}. The table has the sums.`;

const stepNote = ({ step_seconds: step }) => (step ? `a step is ${duration(step)}` : "");

const ofJobs = (row) =>
  row.job_count === undefined
    ? ""
    : `(${count(row.failed_count)} of ${count(row.finished_count + row.failed_count)} jobs)`;

const sumOf = (rows, field) => {
  const values = rows.map((row) => row[field]).filter((value) => value !== null && value !== undefined);
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
};

// The measure of rows that have one name, such as a flavor of several clouds: their sum, or the quotient of two sums.
const together = (rows, { name, quotient }) => {
  if (rows.length < 2 || !quotient) return sumOf(rows, name);
  const [part, whole] = quotient.map((field) => sumOf(rows, field));
  return whole ? part / whole : null;
};

// A measure of each name over time: stacked bars of what adds up, lines of shares.
export const overTime = ({ id, title, data, by, measure, linkOf, ...more }) => {
  const rows = data.series;
  const names = namesOf(rows, by);
  const isLine = measure.isShare === true;
  const colour = isLine ? lineColourOf : colourOf;
  names.forEach(colour);
  const rowsOf = Map.groupBy(rows, (row) => JSON.stringify([nameOf(row, by), row.at]));
  const cells = names.flatMap((name) =>
    stepsOf(rows).map((step) => ({ name, step, mine: rowsOf.get(JSON.stringify([name, step.at])) ?? [] })),
  );
  const points = cells
    .filter(({ mine }) => mine.length || isLine)
    .map(({ name, step, mine }) => ({
      name,
      ...step,
      value: together(mine, measure),
      colour: colour(name),
      dashed: isDashed(name),
      more: mine.length && measure.name === "failed_share" ? ofJobs(mine[0]) : "",
    }));
  const options = { points, from: data.from, until: data.until, whole: measure.whole, isShare: measure.isShare };
  const draw = (width) => (isLine ? lines : stackedBars)(width, { ...options, label: label({ title, data }) });
  const groups = groupsOf(points, measure, colour, { isSummed: !isLine });
  return {
    id,
    title,
    note: stepNote(data),
    unit: measure.unit,
    legend: legendOf(names, colour, linkOf),
    draw,
    ...more,
    ...timed(data, groups, linkOf),
    isEmpty: points.every(({ value }) => value === null),
  };
};

// The counts of each state over time, of all names together: measures {finished_count: "finished", …}.
export const byState = ({ id, title, data, measures, unit, linkOf, ...more }) => {
  const states = Object.entries(measures);
  const points = stepsOf(data.series).flatMap((step) => {
    const rows = data.series.filter(({ at }) => at === step.at);
    return states.map(([field, name]) => ({
      name,
      ...step,
      value: rows.reduce((sum, row) => sum + (row[field] ?? 0), 0),
      colour: stateColourOf(name),
    }));
  });
  const names = states
    .map(([, name]) => name)
    .filter((name) => points.some((point) => point.name === name && point.value));
  const options = { points, from: data.from, until: data.until, whole: true };
  return {
    id,
    title,
    note: stepNote(data),
    unit,
    legend: legendOf(names, stateColourOf, linkOf),
    ...more,
    draw: (width) => stackedBars(width, { ...options, label: label({ title, data }) }),
    ...timed(data, groupsOf(points, { whole: true }, stateColourOf), linkOf),
    isEmpty: !names.length,
  };
};

// A share of each name in each step, as a map.
export const shareMap = ({ id, title, data, by, measure, linkOf, ...more }) => {
  const names = namesOf(data.series, by);
  const points = data.series.map((row) => ({
    name: nameOf(row, by),
    at: row.at,
    until: row.until,
    value: row[measure.name] ?? null,
    more: ofJobs(row),
  }));
  const red = () => stateColourOf("failed");
  return {
    id,
    title,
    note: `${stepNote(data)} · the number is the share in %, and the colour is its strength`,
    unit: "",
    legend: [],
    ...more,
    draw: (width) =>
      heatMap(width, { points, names, from: data.from, until: data.until, label: label({ title, data }) }),
    ...timed(data, groupsOf(points, measure, red, { isSummed: false }), linkOf),
    isEmpty: points.every(({ value }) => value === null),
  };
};

const running = (rows, measure) => {
  let sum = 0;
  return stepsOf(rows).map(({ at, until }) => {
    const mine = rows.filter((row) => row.at === at);
    sum += mine.reduce((total, row) => total + (row[measure.name] ?? 0), 0);
    return { at, until, value: sum, isSum: true };
  });
};

// The sum since the window began, beside that of the window before it, laid over it.
export const cumulative = ({ id, title, data, before, measure, ...more }) => {
  const shift = before ? new Date(data.from) - new Date(before.from) : 0;
  const moved = (iso) => new Date(+new Date(iso) + shift).toISOString();
  const earlier = before ? running(before.series, measure) : [];
  const end = Math.max(+new Date(data.until), ...earlier.map(({ until }) => +new Date(moved(until))));
  const points = [
    ...running(data.series, measure).map((point) => ({ ...point, name: "this window" })),
    ...earlier.map((point) => ({
      ...point,
      at: moved(point.at),
      until: moved(point.until),
      name: "the month before",
      dashed: true,
    })),
  ].map((point) => ({ ...point, colour: COLOURS[point.name] }));
  const span = { from: data.from, until: new Date(end).toISOString() };
  return {
    id,
    title,
    note: stepNote(data),
    unit: measure.unit,
    legend: legendOf(namesOf(points, "name"), (name) => COLOURS[name]),
    ...more,
    draw: (width) => lines(width, { points, ...span, label: label({ title, data }) }),
    ...timed(
      span,
      groupsOf(points, measure, (name) => COLOURS[name], { isSummed: false }),
      () => null,
    ),
    isEmpty: !points.length,
  };
};

const COLOURS = { "this window": "#0072b2", "the month before": "#8b98a5" };
