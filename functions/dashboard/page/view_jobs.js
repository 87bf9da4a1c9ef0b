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
import { JOB_FILTERS, distribution, figures } from "./jobs_figures.js";
import { count, hours, share, verdict } from "./format.js";

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

export const jobs = {
  title: "Jobs",
  filters: JOB_FILTERS,
  windowed: true,
  figures,
  facts: ({ totals, coverage }) => {
    const inWords = verdict(totals);
    const tone = { failing: "bad", raised: "odd" }[inWords] ?? null;
    return [
      ["Jobs", count(totals.job_count)],
      ["Failed share", share(totals.failed_share), { tone, word: inWords }],
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
