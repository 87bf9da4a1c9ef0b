// What breaks, why, and where?
import {
  FAILED_SHARE,
  JOB_COUNTS,
  JOB_EFFORT,
  MEANS,
  MULTICORE,
  OTHER_COUNTS,
  STATUS,
  message,
  name,
  number,
  time,
  word,
} from "./columns.js";
import { STATES, byState, histogramOf, overTime, rankingOf, shareMap } from "./figures.js";
import { binary, count, duration, hours, share, verdict } from "./format.js";
import { whom } from "./view_usage.js";

const FILTERS = ["cloud", "status", "error", "vm", "site", "queue", "release", "task", "system"];

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

// Of an error all jobs failed: a share says nothing.
const withoutShare = ({ columns, ...display }) => ({
  ...display,
  columns: columns.filter((column) => column !== FAILED_SHARE),
});

const jobsBy = (label, dimensions, more = [], rest = {}) => ({
  label,
  sort: "failed_share-down",
  dimensions,
  key: (row) => JSON.stringify(dimensions.map((column) => row[column.name])),
  columns: [...dimensions, ...JOB_COUNTS, ...JOB_EFFORT, ...OTHER_COUNTS, ...more],
  ...rest,
});

const toErrors =
  (field, filter = field) =>
  (row) =>
    row[field] !== null && row[field] !== undefined && row[field] !== "" && { by: "error", [filter]: row[field] };

const orNone = (error) => error ?? "none";

const links = ({ links: all = [] }) =>
  (all ?? [])
    .map(({ title, url }) => ({ title, url }))
    .filter(({ url }) => URL.canParse(url) && new URL(url).protocol.startsWith("http"));

const detail = (row) => ({
  text: row.error_raw ?? row.error_message ?? "The source gave no text of an error.",
  facts: [
    ["Job", row.job_id],
    ["System", row.system],
    ["Batch id", row.batch_id],
    ["Task", row.task_id],
    ["Queue", row.queue],
    ["Cloud", row.cloud],
    ["Its cloud is known by", row.cloud_known_by],
    ["VM", row.vm],
    ["Error", row.error],
  ].filter(([, value]) => value !== undefined),
  links: links(row),
});

const job = {
  label: "Single jobs",
  sort: "final_at-down",
  key: ({ system, job_id: id }) => `${system}/${id}`,
  detail,
  columns: [
    name("job_id", "Job"),
    STATUS,
    word("error", "Error", { format: orNone, isWord: true }),
    message("error_message", "Message"),
    name("vm", "VM", {
      opens: ({ cloud, vm }) => vm && { view: "usage", by: "interval", cloud, vm },
    }),
    name("cloud", "Cloud"),
    time("final_at", "Final"),
    time("started_at", "Started"),
    ...JOB_EFFORT,
    word("system", "System"),
  ],
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

const distribution = {
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

const figures = (data, state, extras, { display, displayName, rows }) => {
  const ofWhom = whom(state, FILTERS);
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

const failedShareOf = ({ failed_share: value, failed_count: failed, finished_count: finished }) =>
  value !== undefined ? value : failed + finished > 0 ? failed / (failed + finished) : null;

export const jobs = {
  title: "Jobs",
  filters: FILTERS,
  windowed: true,
  figures,
  facts: ({ totals, coverage }) => {
    const failed = failedShareOf(totals);
    const word = verdict(failed, totals.job_count);
    return [
      ["Jobs", count(totals.job_count)],
      ["Failed share", share(failed), { tone: { failing: "bad", raised: "odd" }[word] ?? null, word }],
      ["Core hours", hours(totals.core_hours)],
      ["Wall hours", hours(totals.wall_hours)],
      ["CPU hours", hours(totals.cpu_hours)],
      ["Efficiency", share(totals.efficiency)],
      ["Wasted core hours", hours(totals.wasted_core_hours)],
      ["On a known cloud", share(coverage)],
    ];
  },
  empty:
    "No job ended in this window. Choose a longer one; SKYTALLY_PANDA_URL or SKYTALLY_DIRAC_URL name where " +
    "jobs are asked for, and the health view says whether they answer.",
  displays: {
    cloud: jobsBy("Clouds", [name("cloud", "Cloud", { opens: toErrors("cloud") })]),
    error: withoutShare(
      jobsBy(
        "Errors",
        [
          word("error", "Error", {
            format: orNone,
            isWord: true,
            opens: ({ cloud, error }) => error && { by: "job", cloud, error },
          }),
          name("cloud", "Cloud"),
          message("error_message", "Message"),
        ],
        [],
        { sort: "failed_count-down" },
      ),
    ),
    job,
    distribution,
    vm: jobsBy("VMs", [
      name("vm", "VM", { opens: ({ cloud, vm }) => vm && { by: "job", cloud, vm } }),
      name("cloud", "Cloud"),
    ]),
    site: jobsBy("Sites", [name("site", "Site", { opens: toErrors("site") }), name("cloud", "Cloud")]),
    queue: jobsBy("Queues", [name("queue", "Queue", { opens: toErrors("queue") })]),
    task: jobsBy(
      "Tasks",
      [name("task_id", "Task", { opens: toErrors("task_id", "task") }), name("transformation", "Transformation")],
      MEANS,
    ),
    kind: jobsBy(
      "Kinds",
      [
        name("processing_type", "Processing type"),
        name("transformation", "Transformation"),
        name("input_type", "Input"),
        name("output_type", "Output"),
      ],
      MEANS,
    ),
    release: jobsBy("Releases", [name("release", "Release", { opens: toErrors("release") })], MEANS),
    cores: jobsBy("Cores", [MULTICORE], MEANS),
    status: {
      ...jobsBy("Statuses", [name("cloud", "Cloud"), STATUS]),
      sort: "job_count-down",
      columns: [name("cloud", "Cloud"), STATUS, number("job_count", "Jobs", count), ...JOB_EFFORT],
    },
  },
};
