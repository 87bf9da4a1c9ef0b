// What each view shows: its columns, its plot's measures and its summary. A new view is one more object here.
import { count, hours, share, text } from "./format.js";

const total = (rows, name) => {
  const known = rows.map((row) => row[name]).filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
};

export const views = {
  usage: {
    title: "Usage",
    columns: [
      { name: "cloud", label: "Cloud", format: text },
      { name: "vm_count", label: "VMs", format: count },
      { name: "core_hours", label: "Core hours", format: hours },
      { name: "cpu_hours", label: "CPU hours", format: hours },
      { name: "efficiency", label: "Efficiency", format: share, help: "CPU hours divided by core hours" },
      { name: "hs23_hours", label: "HS23 hours", format: hours, help: "core hours times the HS23 score per core" },
      { name: "coverage", label: "Coverage", format: share, help: "time heard of divided by time that the vms were up", low: 0.995 },
      { name: "silent_vms", label: "Silent VMs", format: count, help: "no report for two hours, and no last one", high: 0 },
    ],
    measures: [
      { name: "core_hours", label: "Core hours" },
      { name: "cpu_hours", label: "CPU hours" },
    ],
    by: "cloud",
    facts: (data) => [
      ["Core hours", hours(total(data.table, "core_hours"))],
      ["CPU hours", hours(total(data.table, "cpu_hours"))],
      ["VMs", count(total(data.table, "vm_count"))],
      ["Coverage", share(data.coverage)],
    ],
    empty: "No vm has reported in this window. Boot one with vm.py, or run “make run” to see this machine here.",
  },
};
