// The pictures of jobs, and the sizes of what they used as rows.
import { number, word } from "./columns.js";
import { STATES, byState, overTime, shareMap, whom } from "./figures.js";
import { histogramOf, rankingOf } from "./figures_counts.js";
import { binary, count, duration, share } from "./format.js";

export const JOB_FILTERS = ["cloud", "status", "error", "vm", "site", "queue", "release", "task", "system"];

const MEASURES = [
  { name: "failed_share", label: "Failed share", unit: "", isShare: true },
  { name: "job_count", label: "Jobs that ended", unit: "jobs", whole: true },
  { name: "core_hours", label: "Core hours", unit: "core hours" },
  { name: "wasted_core_hours", label: "Wasted core hours", unit: "core hours" },
  { name: "efficiency", label: "Efficiency", unit: "", isShare: true },
];

const ENDED = Object.fromEntries(STATES.slice(0, 4).map((state) => [`${state}_count`, state]));

const QUANTITIES = {
  run_seconds: ["Run time", duration],
  max_pss_bytes: ["Max PSS", binary],
  disk_bytes: ["Disk", binary],
  efficiency: ["Efficiency", share],
};

const hasJobs = (bucket) => STATES.some((state) => bucket[`${state}_count`] > 0);

const bucketRows = (extras) =>
  Object.entries(QUANTITIES).flatMap(([of, [label, format]]) =>
    (extras[of]?.buckets ?? []).filter(hasJobs).map((bucket) => ({
      ...bucket,
      quantity: label,
      size: `${format(bucket.from)} to ${bucket.until === null ? "more" : format(bucket.until)}`,
    })),
  );

export const distribution = {
  label: "Distributions",
  by: "cloud",
  key: ({ quantity, size }) => JSON.stringify([quantity, size]),
  rows: bucketRows,
  extras: () => Object.fromEntries(Object.keys(QUANTITIES).map((of) => [of, { part: "distribution", of }])),
  columns: [
    word("quantity", "Quantity", { isFixed: true }),
    word("size", "From and to", { isFixed: true, isWord: true }),
    ...STATES.slice(0, 4).map((state) =>
      number(`${state}_count`, state[0].toUpperCase() + state.slice(1), count, { isFixed: true }),
    ),
  ],
};

export const figures = (data, state, extras, { display, displayName, rows }) => {
  const ofWhom = whom(state, JOB_FILTERS);
  if (displayName === "distribution") {
    return Object.entries(QUANTITIES)
      .filter(([of]) => extras[of])
      .map(([of, [label]]) => histogramOf({ id: of, title: `${label} of jobs that ended${ofWhom}`, data: extras[of] }));
  }
  const measure = MEASURES.find((known) => known.name === state.measure) ?? MEASURES[0];
  const choice = { options: MEASURES, chosen: measure.name, parameter: "measure" };
  const onCloud = (cloud) => (cloud === "not known" ? null : { cloud: state.cloud === cloud ? "" : cloud });
  const onState = (status) => ({ status: state.status === status ? "" : status });
  const all = [
    overTime({
      id: "measure",
      title: `${measure.label} by cloud${ofWhom}`,
      data,
      by: "cloud",
      measure,
      linkOf: onCloud,
      ...choice,
    }),
    display.dimensions && displayName !== "cloud"
      ? rankingOf({
          id: "ranking",
          title: `${displayName === "error" ? "Top errors" : `Jobs by ${displayName} and state`}${ofWhom}`,
          rows: displayName === "error" ? rows.filter(({ error }) => error) : rows,
          dimensions: display.dimensions.filter((column) => display.columns.includes(column)),
          linkOf: (row) => display.columns[0].opens?.(row) || null,
          stateLinkOf: onState,
        })
      : byState({
          id: "states",
          title: `Jobs that ended, by state${ofWhom}`,
          data,
          measures: ENDED,
          unit: "jobs",
          linkOf: onState,
        }),
  ];
  const onCell = (cloud, { at, group }) => ({
    by: "error",
    ...(onCloud(cloud) && { cloud }),
    from: at,
    until: group.end.toISOString(),
  });
  if (displayName === "cloud" && new Set(data.series.map(({ cloud }) => cloud)).size > 1) {
    all.push(
      shareMap({
        id: "map",
        title: `Failed share by cloud and time${ofWhom}`,
        data,
        by: "cloud",
        measure: MEASURES[0],
        linkOf: onCell,
        isWide: true,
      }),
    );
  }
  return all.filter(({ isEmpty, options }) => !isEmpty || options);
};
