// What each view shows. A new one is one more object here:
//   title; filters: what it can be held to; windowed: whether it is of a time;
//   displays: what its rows may be, each with a label, its columns, its first order and what makes a row the same row;
//   measures: what its plot can show, by: whose bars; facts: its summary; empty: what to do where there is nothing.
import { DOUBTFUL, EFFORT, JOBS, MEANS, MULTICORE, SILENT, STATUS, hs23, name, number, onClouds, some, time, word } from "./columns.js";
import { count, either, gigabytes, hours, share } from "./format.js";

const orNone = (error) => error ?? "none";

const keyOf = (...fields) => (row) => JSON.stringify(fields.map((field) => row[field]));

const usage = {
  title: "Usage",
  filters: ["cloud", "site", "group", "vm"],
  windowed: true,
  measures: [
    { name: "core_hours", label: "Core hours", unit: "core hours" },
    { name: "cpu_hours", label: "CPU hours", unit: "CPU hours" },
  ],
  by: "cloud",
  facts: ({ totals }) => [
    ["Core hours", hours(totals.core_hours)],
    ["CPU hours", hours(totals.cpu_hours)],
    ["Efficiency", share(totals.efficiency)],
    ["HS23 hours", hs23(totals.hs23_hours, totals)],
    ["VMs", count(totals.vm_count)],
    ["Silent VMs", count(totals.silent_vms)],
    ["Coverage", share(totals.coverage)],
  ],
  empty: "No vm has reported in this window. Choose a longer one, boot a vm with vm.py, or run “make run” to see this machine here.",
  displays: {
    cloud: {
      label: "Clouds",
      sort: "cloud-up",
      key: keyOf("cloud"),
      columns: [
        name("cloud", "Cloud", { opens: ({ cloud }) => ({ by: "vm", cloud }) }),
        number("vm_count", "VMs", count),
        ...EFFORT,
        number("silent_vms", "Silent VMs", count, { help: SILENT, odd: some }),
      ],
    },
    vm: {
      label: "VMs",
      sort: "vm-up",
      key: keyOf("cloud", "vm"),
      columns: [
        name("vm", "VM", { opens: ({ cloud, vm }) => ({ by: "interval", cloud, vm }) }),
        name("cloud", "Cloud"),
        ...EFFORT,
        number("silent_vms", "Silent", either("silent", "no"), { help: SILENT, odd: some }),
        time("last_sampled_at", "Last report"),
        ...DOUBTFUL,
      ],
    },
    interval: {
      label: "Intervals",
      needs: "vm",
      sort: "from-down",
      key: keyOf("cloud", "boot_at", "from"),
      columns: [
        time("from", "From"),
        time("until", "Until"),
        time("boot_at", "Boot"),
        number("cores", "Cores", count),
        number("core_hours", "Core hours", hours),
        number("cpu_hours", "CPU hours", hours),
        number("efficiency", "Efficiency", share),
        number("iowait_core_hours", "I/O wait (core h)", hours),
        number("steal_core_hours", "Steal (core h)", hours, { help: "time that the cloud's host gave to others" }),
        number("suspended_hours", "Suspended (h)", hours, { odd: some }),
        number("network_received_bytes", "Received (GB)", gigabytes),
        number("network_sent_bytes", "Sent (GB)", gigabytes),
      ],
    },
  },
};

const jobsBy = (label, fields, dimensions, more = []) => ({ label, sort: "job_count-down", key: keyOf(...fields), columns: [...dimensions, ...JOBS, ...more] });

const jobs = {
  title: "Jobs",
  filters: ["cloud", "site", "queue", "vm"],
  windowed: true,
  measures: [
    { name: "job_count", label: "Jobs that ended", unit: "jobs", whole: true },
    { name: "core_hours", label: "Core hours", unit: "core hours" },
    { name: "wasted_core_hours", label: "Wasted core hours", unit: "core hours" },
  ],
  by: "cloud",
  facts: ({ totals, coverage }) => [
    ["Jobs", count(totals.job_count)],
    ["Wall hours", hours(totals.wall_hours)],
    ["CPU hours", hours(totals.cpu_hours)],
    ["Efficiency", share(totals.efficiency)],
    ["Wasted core hours", hours(totals.wasted_core_hours)],
    ["On a known cloud", share(coverage)],
  ],
  empty: "No job ended in this window. Choose a longer one; SKYTALLY_PANDA_URL or SKYTALLY_DIRAC_URL name where jobs are asked for, and the health view says whether they answer.",
  displays: {
    cloud: { ...jobsBy("Clouds", ["cloud", "status"], [name("cloud", "Cloud", { opens: onClouds }), STATUS]), sort: "cloud-up" },
    vm: {
      ...jobsBy("VMs", ["cloud", "vm", "status"], [
        name("vm", "VM", { opens: ({ cloud, vm }) => vm && { by: "job", cloud, vm } }),
        name("cloud", "Cloud"),
        STATUS,
      ]),
      sort: "vm-up",
    },
    error: jobsBy("Errors", ["cloud", "error_category", "error", "error_message"], [
      word("error", "Error", { format: orNone, words: true, opens: ({ cloud, error }) => error && { by: "job", cloud, error } }),
      name("cloud", "Cloud"),
      name("error_message", "Message"),
    ]),
    kind: jobsBy("Kinds", ["processing_type", "transformation", "input_type", "output_type", "status"], [
      name("processing_type", "Processing type"),
      name("transformation", "Transformation"),
      name("input_type", "Input"),
      name("output_type", "Output"),
      STATUS,
    ], MEANS),
    release: jobsBy("Releases", ["release", "status"], [
      name("release", "Release", { opens: ({ release }) => release && { by: "error", release } }),
      STATUS,
    ], MEANS),
    cores: jobsBy("Cores", ["multicore", "status"], [MULTICORE, STATUS], MEANS),
    queue: jobsBy("Queues", ["queue", "status"], [name("queue", "Queue", { opens: ({ queue }) => queue && { by: "error", queue } }), STATUS]),
    task: jobsBy("Tasks", ["task_id", "transformation", "status"], [name("task_id", "Task"), name("transformation", "Transformation"), STATUS], MEANS),
    job: {
      label: "Single jobs",
      sort: "final_at-down",
      key: keyOf("system", "job_id"),
      columns: [
        name("job_id", "Job"),
        word("system", "System"),
        name("vm", "VM", { opens: ({ cloud, vm }) => vm && { view: "usage", by: "interval", cloud, vm } }),
        name("cloud", "Cloud"),
        STATUS,
        time("started_at", "Started"),
        time("final_at", "Final"),
        ...JOBS.slice(1),
        word("error", "Error", { format: orNone, words: true }),
        name("error_message", "Message"),
      ],
    },
  },
};

const secrets = {
  title: "Secrets",
  filters: ["cloud", "vm"],
  windowed: true,
  measures: [{ name: "secret_count", label: "Secrets that came to their end", unit: "secrets", whole: true }],
  by: "state",
  facts: ({ totals }) => [
    ...["waiting", "delivered", "expired", "revoked"].map((state) => [state[0].toUpperCase() + state.slice(1), count(totals[`${state}_count`])]),
    ["Contested", count(totals.contested_count)],
    ["Taken and lost", count(totals.unreported_count)],
  ],
  empty: "No secret waits, and none came to its end in this window. The scheduler leaves one with “skytally deposit”.",
  displays: {
    secret: {
      label: "Secrets",
      sort: "at-down",
      key: keyOf("claim", "vm"),
      columns: [
        name("vm", "VM", { opens: ({ cloud, vm }) => vm && { view: "usage", by: "interval", cloud, vm } }),
        name("cloud", "Cloud"),
        word("state", "State", { odd: (value) => value === "damaged" }),
        time("at", "Since"),
        time("expires_at", "Expires"),
        word("address", "Taken from"),
        number("contested_count", "Contested", count, { odd: some, help: "another key with a valid proof wanted it: two parties hold the token" }),
        word("other_hostname", "Calls itself", { odd: (value) => value !== null, help: "the host that took it names itself otherwise than the scheduler expected" }),
        word("boot", "Boot", { odd: (value) => value === "lost", help: "waiting for its vm; taken, and not heard of yet; reports; or lost, where no report came within 20 minutes" }),
      ],
    },
  },
};

const health = {
  title: "Health",
  filters: ["cloud"],
  measures: [],
  facts: ({ totals }) => [
    ["Open alarms", count(totals.open_alarms)],
    ["Failing timers", count(totals.failing_timers)],
    ["Timers not run yet", count(totals.timers_never_run)],
    ["Failing sources", count(totals.failing_sources)],
    ["Left out unread", count(totals.unreadable_things)],
  ],
  empty: "There are no timers and no alarms of this cloud here.",
  displays: {
    all: {
      label: "Timers, sources, faults and alarms",
      sort: "kind-up",
      key: keyOf("kind", "subject", "cloud"),
      columns: [
        name("subject", "What"),
        word("kind", "Kind"),
        name("cloud", "Cloud"),
        word("state", "State", { odd: (value) => !["well", "running"].includes(value) }),
        time("since", "Since", { help: "a timer's last success; until when a source is collected; when a fault or an alarm began, or was last met" }),
        name("message", "Message"),
      ],
    },
  },
};

export const views = { usage, jobs, secrets, health };

export const viewOf = ({ view }) => (Object.hasOwn(views, view) ? views[view] : usage);

// The rows' name among the view's, usually its first.
export const displayNameOf = (state) => {
  const { displays } = viewOf(state);
  const known = Object.hasOwn(displays, state.by) && (!displays[state.by].needs || state[displays[state.by].needs]);
  return known ? state.by : Object.keys(displays)[0];
};

export const displayOf = (state) => viewOf(state).displays[displayNameOf(state)];

// The same without the columns in which a filter leaves one name.
const HELD = ["cloud", "vm", "queue", "release", "error"];

export const shownDisplayOf = (state) => {
  const display = displayOf(state);
  return { ...display, columns: display.columns.filter(({ name: held }, at) => at === 0 || !HELD.includes(held) || !state[held]) };
};

// The column and the way that rows are ordered by.
export const sortOf = (state) => {
  const { columns, sort } = shownDisplayOf(state);
  const [column, way] = state.sort.split("-");
  return columns.some(({ name: known }) => known === column) && ["up", "down"].includes(way) ? `${column}-${way}` : sort;
};
