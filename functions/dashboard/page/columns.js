// The columns that views share: name: the server's; label: with its unit; format; help; odd: what is worth a look;
// named: a stranger's name; opens: the view behind it, as a change of what is shown; about: more of a cell, in its title.
import { count, either, gigabytes, hours, seconds, share, text, when } from "./format.js";

export const some = (value) => value > 0;

const failing = (status) => /fail|kill|stall|cancel|closed/i.test(status ?? "");

export const name = (field, label, more = {}) => ({ name: field, label, format: text, named: true, ...more });
export const word = (field, label, more = {}) => ({ name: field, label, format: text, ...more });
export const time = (field, label, more = {}) => ({ name: field, label: `${label} (UTC)`, format: when, moment: true, ...more });
export const number = (field, label, format, more = {}) => ({ name: field, label, format, ...more });

// HS23 hours of which a part is not known are at least what is known.
const partly = (row) => row.hs23_complete === false;
export const hs23 = (value, row) => (partly(row) ? `≥ ${hours(value)}` : hours(value));
const scored = (row) => (partly(row) ? `HS23 is known of ${share(row.scored_core_hours / row.core_hours)} of the core hours` : null);

export const EFFORT = [
  number("core_hours", "Core hours", hours, { help: "time up times cores" }),
  number("cpu_hours", "CPU hours", hours, { help: "user, nice and system time" }),
  number("efficiency", "Efficiency", share, { help: "CPU hours divided by core hours" }),
  number("hs23_hours", "HS23 hours", hs23, { help: "core hours times the HS23 score per core", about: scored }),
  number("coverage", "Coverage", share, { help: "time heard of divided by time that the vms were up", odd: (value) => value < 0.995 }),
];

export const SILENT = "no report for two hours, and no last one";

export const DOUBTFUL = [
  number("largest_clock_offset_seconds", "Clock off (s)", seconds, { help: "how far the vm's clock is from the server's", odd: (value) => value >= 30 }),
  number("estimated_edges", "Estimated", count, { help: "boots of which nobody measured where the month began, or their cores before the first report", odd: some }),
];

export const JOBS = [
  number("job_count", "Jobs", count),
  number("wall_hours", "Wall hours", hours),
  number("cpu_hours", "CPU hours", hours),
  number("efficiency", "Efficiency", share, { help: "CPU hours divided by wall hours times cores, of jobs whose CPU time is known" }),
  number("wasted_core_hours", "Wasted core hours", hours, { help: "wall hours times cores of jobs that began and did not end well", odd: some }),
];

export const MEANS = [
  number("mean_wall_hours", "Run time (h)", hours, { help: "mean wall hours of a job" }),
  number("mean_max_pss_bytes", "Max PSS (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
  number("mean_work_folder_bytes", "Disk (GB)", gigabytes, { help: "mean size of the work folder" }),
  number("mean_input_bytes", "Input (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
  number("mean_output_bytes", "Output (GB)", gigabytes, { help: "mean of the jobs of which it is known" }),
];

export const STATUS = word("status", "Status", { odd: failing });
export const onClouds = (row) => (failing(row.status) ? { by: "error", cloud: row.cloud } : { by: "vm", cloud: row.cloud });
export const MULTICORE = { name: "multicore", label: "Cores", format: either("multi", "single"), words: true };
