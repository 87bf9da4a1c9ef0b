// Figures of counts by state: the first rows of a table as bars, and the sizes of a quantity as a histogram.
// They have the fields that figures.js names.
import { histogram, ranking } from "./charts.js";
import { stateColourOf } from "./colours.js";
import { NO_NAME, STATES, legendOf } from "./figures.js";
import { UNKNOWN, binary, count, duration } from "./format.js";

const MOST_RANKED = 15;

const written = (row, columns) => {
  const words = columns.map((column) => column.format(row[column.name], row)).filter((value) => value !== UNKNOWN);
  return words.join(" · ") || NO_NAME;
};

// The first rows of a table, each with its jobs by state.
export const rankingOf = ({ id, title, rows: all, dimensions, linkOf, stateLinkOf }) => {
  const rows = all.slice(0, MOST_RANKED);
  const labels = rows.map((row) => written(row, dimensions));
  const parts = rows.flatMap((row, at) =>
    STATES.map((name) => ({ row: at, name, value: row[`${name}_count`] ?? 0, colour: stateColourOf(name) })),
  );
  const groups = rows.map((row, at) => ({
    title: labels[at],
    entries: parts
      .filter((part) => part.row === at && part.value)
      .map(({ name, value, colour }) => ({ name, colour, written: count(value) })),
    sum: count(row.job_count),
  }));
  const names = STATES.filter((name) => parts.some((part) => part.name === name && part.value));
  const height = (svg) => svg.scale("y").bandwidth;
  return {
    id,
    title,
    note: all.length > rows.length ? `the first ${rows.length} rows of the table` : "",
    unit: "jobs",
    groups,
    legend: legendOf(names, stateColourOf, stateLinkOf),
    isEmpty: !parts.some(({ value }) => value),
    draw: (width) => ranking(width, { labels, parts, label: `${title}. The table has the numbers.` }),
    locate: (svg, _, y) =>
      rows.findIndex((row, at) => y >= svg.scale("y").apply(at) && y < svg.scale("y").apply(at) + height(svg)),
    extent: (svg, group) => {
      const top = svg.scale("y").apply(groups.indexOf(group));
      return { top, bottom: top + height(svg) };
    },
    open: (_, { row }) => linkOf(rows[row]),
  };
};

const EDGES = { seconds: duration, bytes: binary, share: (value) => `${Math.round(value * 100)} %` };

// How often each size of a quantity was met, by state.
export const histogramOf = ({ id, title, data }) => {
  const { buckets: all = [], unit, unknown_count: unknown } = data;
  const hasJobs = (row) => STATES.some((state) => row[`${state}_count`] > 0);
  const buckets = all.slice(Math.max(0, all.findIndex(hasJobs) - 1), all.findLastIndex(hasJobs) + 2);
  const format = EDGES[unit] ?? String;
  const edges = [...buckets.map(({ from }) => from), buckets.at(-1)?.until].map((edge) =>
    edge === undefined || edge === null ? "more" : format(edge),
  );
  const bars = buckets.flatMap((row, bucket) =>
    STATES.map((name) => ({ bucket, name, value: row[`${name}_count`] ?? 0, colour: stateColourOf(name) })),
  );
  const groups = buckets.map((_, at) => {
    const mine = bars.filter((bar) => bar.bucket === at && bar.value);
    const entries = mine.map(({ name, value, colour }) => ({ name, colour, written: count(value) }));
    return {
      title: `${edges[at]} to ${edges[at + 1]}`,
      entries,
      sum: count(mine.reduce((sum, { value }) => sum + value, 0)),
    };
  });
  const names = STATES.filter((name) => bars.some((bar) => bar.name === name && bar.value));
  return {
    id,
    title,
    note: unknown ? `not known of ${count(unknown)} jobs` : "",
    unit: "jobs",
    groups,
    legend: legendOf(names, stateColourOf),
    isEmpty: !names.length,
    draw: (width) => histogram(width, { bars, edges, label: `${title}: jobs by size. The table has the numbers.` }),
    locate: (svg, x) => groups.findIndex((_, at) => at === Math.floor(svg.scale("x").invert(x))),
    extent: (svg, group) => {
      const at = groups.indexOf(group);
      return { left: svg.scale("x").apply(at), right: svg.scale("x").apply(at + 1) };
    },
    open: () => null,
  };
};
