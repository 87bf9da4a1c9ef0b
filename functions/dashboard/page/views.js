// What each view shows. A new one is one more object here:
//   title; query: what it asks the server for; key: what makes a row the same row; sort: the order at first;
//   columns: a field each (named: a stranger's name; opens: the view behind it; odd: what is worth a look);
//   measures: what its plot can show, by: whose bars; facts: its summary; empty: what to do where there is nothing.
import { count, either, hours, share, text, when } from "./format.js";

// A sum of which a part is not known is not known.
const total = (rows, name) => (rows.some((row) => row[name] === null) ? null : d3.sum(rows, (row) => row[name]));

const some = (value) => value > 0;

const EFFORT = [
  { name: "core_hours", label: "Core hours", format: hours },
  { name: "cpu_hours", label: "CPU hours", format: hours },
  { name: "efficiency", label: "Efficiency", format: share, help: "CPU hours divided by core hours" },
  { name: "hs23_hours", label: "HS23 hours", format: hours, help: "core hours times the HS23 score per core" },
  { name: "coverage", label: "Coverage", format: share, help: "time heard of divided by time that the vms were up", odd: (value) => value < 0.995 },
];

const usage = {
  measures: [
    { name: "core_hours", label: "Core hours", unit: "core hours" },
    { name: "cpu_hours", label: "CPU hours", unit: "CPU hours" },
  ],
  by: "cloud",
  facts: ({ table, coverage }) => [
    ["Core hours", hours(total(table, "core_hours"))],
    ["CPU hours", hours(total(table, "cpu_hours"))],
    ["HS23 hours", hours(total(table, "hs23_hours"))],
    ["VMs", count(total(table, "vm_count"))],
    ["Silent VMs", count(total(table, "silent_vms"))],
    ["Coverage", share(coverage)],
  ],
  empty: "No vm has reported in this window. Choose another one, boot a vm with vm.py, or run “make run” to see this machine here.",
};

const bytes = (value) => (value === null || value === undefined ? hours(value) : `${hours(value / 1e9)} GB`);

const JOBS = [
  { name: "job_count", label: "Jobs", format: count },
  { name: "wall_hours", label: "Wall hours", format: hours },
  { name: "cpu_hours", label: "CPU hours", format: hours },
  { name: "efficiency", label: "Efficiency", format: share, help: "CPU hours divided by wall hours times cores" },
  { name: "wasted_core_hours", label: "Wasted core hours", format: hours, help: "wall hours times cores of jobs that began and did not end well", odd: some },
];

const MEANS = [
  { name: "mean_wall_hours", label: "Run time", format: hours, help: "mean wall hours" },
  { name: "mean_max_pss_bytes", label: "Max PSS", format: bytes, help: "mean of the jobs of which it is known" },
  { name: "mean_work_folder_bytes", label: "Disk", format: bytes, help: "mean size of the work folder" },
  { name: "mean_input_bytes", label: "Input", format: bytes },
  { name: "mean_output_bytes", label: "Output", format: bytes },
];

const STATUS = { name: "status", label: "Status", format: text, odd: (value) => ["failed", "Failed", "Killed", "Stalled"].includes(value) };

const jobs = {
  measures: [
    { name: "job_count", label: "Jobs that ended", unit: "jobs" },
    { name: "core_hours", label: "Core hours", unit: "core hours" },
    { name: "wasted_core_hours", label: "Wasted core hours", unit: "core hours" },
  ],
  by: "cloud",
  facts: ({ table, coverage }) => [
    ["Jobs", count(total(table, "job_count"))],
    ["CPU hours", hours(total(table, "cpu_hours"))],
    ["Wasted core hours", hours(total(table, "wasted_core_hours"))],
    ["On a known cloud", share(coverage)],
  ],
  key: (row) => JSON.stringify(Object.values(row).filter((value) => typeof value !== "number")),
  sort: "job_count-down",
  empty: "No job ended in this window. SKYTALLY_PANDA_URL or SKYTALLY_DIRAC_URL name where jobs are asked for.",
};

const jobsBy = (title, by, dimensions, more = []) => ({ ...jobs, title, query: { view: "jobs", by }, columns: [...dimensions, ...JOBS, ...more] });

export const views = {
  usage: {
    ...usage,
    title: "Usage",
    query: { view: "usage" },
    key: ({ cloud }) => cloud,
    sort: "cloud-up",
    columns: [
      { name: "cloud", label: "Cloud", format: text, named: true, opens: ({ cloud }) => ({ view: "vms", cloud, sort: "" }) },
      { name: "vm_count", label: "VMs", format: count },
      ...EFFORT,
      { name: "silent_vms", label: "Silent VMs", format: count, help: "no report for two hours, and no last one", odd: some },
    ],
  },

  vms: {
    ...usage,
    title: "VMs",
    query: { view: "usage", by: "vm" },
    key: ({ cloud, vm }) => JSON.stringify([cloud, vm]),
    sort: "vm-up",
    columns: [
      { name: "vm", label: "VM", format: text, named: true },
      { name: "cloud", label: "Cloud", format: text, named: true },
      ...EFFORT,
      { name: "silent_vms", label: "Silent", format: either("silent", "no"), help: "no report for two hours, and no last one", odd: some },
    ],
  },

  jobs: {
    ...jobsBy("Jobs", "cloud", [
      { name: "cloud", label: "Cloud", format: text, named: true, opens: ({ cloud }) => ({ view: "errors", cloud, sort: "" }) },
      STATUS,
    ]),
    sort: "cloud-up",
  },

  errors: jobsBy("Job errors", "error", [
    { name: "cloud", label: "Cloud", format: text, named: true },
    { name: "error", label: "Error", format: text },
    { name: "error_message", label: "Message", format: text, named: true },
  ]),

  kinds: jobsBy(
    "Job kinds",
    "kind",
    [
      { name: "processing_type", label: "Processing type", format: text, named: true },
      { name: "transformation", label: "Transformation", format: text, named: true },
      { name: "input_type", label: "Input", format: text, named: true },
      { name: "output_type", label: "Output", format: text, named: true },
      STATUS,
    ],
    MEANS,
  ),

  releases: jobsBy("Releases", "release", [{ name: "release", label: "Release", format: text, named: true }, STATUS], MEANS),

  cores: jobsBy("Cores", "cores", [{ name: "multicore", label: "Cores", format: either("multi", "single") }, STATUS], MEANS),

  secrets: {
    title: "Secrets",
    query: { view: "secrets" },
    key: ({ claim, vm }) => JSON.stringify([claim, vm]),
    sort: "at-down",
    columns: [
      { name: "vm", label: "VM", format: text, named: true },
      { name: "cloud", label: "Cloud", format: text, named: true },
      { name: "state", label: "State", format: text },
      { name: "at", label: "Since", format: when },
      { name: "expires_at", label: "Expires", format: when },
      { name: "address", label: "Taken from", format: text },
      { name: "contested_count", label: "Contested", format: count, odd: some, help: "another key with a valid proof wanted it: two parties hold the token" },
      { name: "reported", label: "Reported", format: either("yes", "not yet"), odd: (value) => !value, help: "whether the vm has reported since; until then nobody knows that it arrived" },
    ],
    measures: [],
    facts: ({ table }) => ["waiting", "delivered", "expired", "revoked"].map((state) => [state, count(table.filter((row) => row.state === state).length)]),
    empty: "No secret was left within a month. The scheduler leaves one with “skytally deposit”.",
  },

  health: {
    title: "Health",
    query: { view: "health" },
    key: ({ kind, subject, cloud }) => JSON.stringify([kind, subject, cloud]),
    sort: "kind-up",
    columns: [
      { name: "subject", label: "What", format: text, named: true },
      { name: "kind", label: "Kind", format: text },
      { name: "cloud", label: "Cloud", format: text, named: true },
      { name: "state", label: "State", format: text, odd: (value) => !["well", "running"].includes(value) },
      { name: "since", label: "Since", format: when, help: "a timer's last success; until when a source is collected; an alarm's begin" },
      { name: "message", label: "Message", format: text },
    ],
    measures: [],
    facts: ({ table }) => [
      ["Open alarms", count(table.filter(({ kind }) => kind !== "timer").length)],
      ["Failing timers", count(table.filter(({ kind, state }) => kind === "timer" && state === "failing").length)],
      ["Timers not run yet", count(table.filter(({ kind, state }) => kind === "timer" && state === null).length)],
    ],
    empty: "There are no timers and no alarms here.",
  },
};
