// The columns that views share: name: the server's; label: with its unit; format; help; odd: what is worth a look;
// isName: a stranger's name; opens: the view behind it, as a change of what is shown; about: more of a cell, in its
// title; wraps: a long text; tone: a class of the cell.
import { UNKNOWN, count, duration, either, gigabytes, hours, seconds, share, text, verdict, when } from "./format.js";

export const some = (value) => value > 0;

export const name = (field, label, more = {}) => ({ name: field, label, format: text, isName: true, ...more });
export const word = (field, label, more = {}) => ({ name: field, label, format: text, ...more });
export const time = (field, label, more = {}) => ({ name: field, label, format: when, isTime: true, ...more });
export const number = (field, label, format, more = {}) => ({ name: field, label, format, ...more });
// A timer that never ran has no state.
export const state = (label, more = {}) =>
  word("state", label, {
    isWord: true,
    format: (value, row) => value ?? (row.kind === "timer" ? "not run yet" : UNKNOWN),
    ...more,
  });
export const message = (field, label, more = {}) => name(field, label, { wraps: true, ...more });

// HS23 hours of which a part is not known are at least what is known.
const isPartial = (row) => row.hs23_complete === false;
export const hs23 = (value, row) => (value !== null && isPartial(row) ? `≥ ${hours(value)}` : hours(value));
const scored = (row) =>
  isPartial(row) ? `HS23 is known of ${share(row.scored_core_hours / row.core_hours)} of the core hours` : null;

export const EFFORT = [
  number("core_hours", "Core hours", hours, { help: "time up times cores" }),
  number("cpu_hours", "CPU hours", hours, { help: "user, nice and system time" }),
  number("efficiency", "Efficiency", share, { help: "CPU hours divided by core hours" }),
  number("hs23_hours", "HS23 hours", hs23, { help: "core hours times the HS23 score per core", about: scored }),
  number("coverage", "Coverage", share, {
    help: "time of which reports arrived, divided by the time from which they were expected",
    odd: (value) => value < 0.995,
  }),
];

export const SILENT = "no report for two hours, and no last one";

export const ESTIMATES = [
  number("largest_clock_offset_seconds", "Clock off (s)", seconds, {
    help: "how far the vm's clock is from the server's",
    odd: (value) => value >= 30,
  }),
  number("estimated_edges", "Estimated", count, {
    help: "boots of which nobody measured where the month began, or their cores before the first report",
    odd: some,
  }),
];

// A share of failed jobs, and how bad it is, in a word.
const failed = (value, row) => [share(value), verdict(row)].filter(Boolean).join(" ");
const toneOfFailed = (row) => ({ failing: "bad", raised: "odd", well: "good" })[verdict(row)] ?? null;

export const FAILED_SHARE = number("failed_share", "Failed share", failed, {
  help: "failed jobs of those that finished or failed",
  tone: toneOfFailed,
});

export const JOB_COUNTS = [
  FAILED_SHARE,
  number("job_count", "Jobs", count),
  number("failed_count", "Failed", count),
  number("finished_count", "Finished", count),
];

export const JOB_EFFORT = [
  number("wall_hours", "Wall hours", hours),
  number("core_hours", "Core hours", hours, { help: "wall hours times cores" }),
  number("cpu_hours", "CPU hours", hours),
  number("efficiency", "Efficiency", share, {
    help: "CPU hours divided by core hours, of jobs whose CPU time is known",
  }),
  number("wasted_core_hours", "Wasted core hours", hours, {
    help: "core hours of jobs that began and did not end well",
  }),
];

export const OTHER_COUNTS = [
  number("cancelled_count", "Cancelled", count),
  number("closed_count", "Closed", count),
  number("other_count", "Not ended", count, { help: "running, holding, and all else that is not final" }),
];

export const MEANS = [
  number("mean_wall_hours", "Run time (h)", hours, { help: "mean wall hours of a job" }),
  number("mean_max_pss_bytes", "Max PSS (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
  number("mean_work_folder_bytes", "Disk (GB)", gigabytes, { help: "mean size of the work folder" }),
  number("mean_input_bytes", "Input (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
  number("mean_output_bytes", "Output (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
];

const isBad = (status) => /fail|kill|stall|cancel|closed/i.test(status ?? "");

export const STATUS = word("status", "Status", { odd: isBad });
export const MULTICORE = { name: "multicore", label: "Cores", format: either("multi", "single"), isWord: true };

// An alarm's evidence is a view of this page.
const evidenceOf = ({ evidence }) => evidence && { isFresh: true, ...evidence };

export const ALARM = [
  message("message", "Alarm", {
    opens: evidenceOf,
    isWord: true,
    format: (value, row) => value ?? row.kind ?? UNKNOWN,
  }),
  name("cloud", "Cloud"),
  time("raised_at", "Raised"),
  word("kind", "Kind"),
];

export const ENDED_ALARM = [...ALARM, time("resolved_at", "Resolved"), number("open_seconds", "Open for", duration)];
