// What each view shows: its columns, its plot's measures and its summary. A new view is one more object here.
import { count, hours, share, text, when, yes } from "./format.js";

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

  secrets: {
    title: "Secrets",
    columns: [
      { name: "vm", label: "VM", format: text },
      { name: "cloud", label: "Cloud", format: text, named: true },
      { name: "state", label: "State", format: text },
      { name: "at", label: "Since", format: when },
      { name: "expires_at", label: "Expires", format: when },
      { name: "address", label: "Taken from", format: text },
      { name: "contested_count", label: "Contested", format: count, high: 0, help: "another key with a valid proof wanted it: two parties hold the token" },
      { name: "reported", label: "Reported", format: yes, help: "whether the vm has reported since; until then nobody knows that it arrived" },
    ],
    measures: [],
    facts: (data) => ["waiting", "delivered", "expired", "revoked"].map((state) => [state, count(data.table.filter((row) => row.state === state).length)]),
    empty: "No secret was left within a month. The scheduler leaves one with “skytally deposit”.",
  },
};
