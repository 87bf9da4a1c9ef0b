// Who gave how much?
import { EFFORT, ESTIMATES, SILENT, hs23, name, number, some, time, word } from "./columns.js";
import { byState, cumulative, overTime, whom } from "./figures.js";
import { count, either, gigabytes, hours, share } from "./format.js";

const MEASURES = [
  { name: "core_hours", label: "Core hours", unit: "core hours" },
  { name: "cpu_hours", label: "CPU hours", unit: "CPU hours" },
  { name: "hs23_hours", label: "HS23 hours", unit: "HS23 hours" },
  { name: "efficiency", label: "Efficiency", unit: "", isShare: true, quotient: ["cpu_hours", "core_hours"] },
  { name: "cumulative", label: "Core hours so far", unit: "core hours" },
];

const FILTERS = ["cloud", "site", "group", "vm"];
const SERIES_BY = ["cloud", "site", "group", "flavor"];
const WORDS = { cloud: "Clouds", site: "Sites", group: "Groups", flavor: "Flavors" };

const effortBy = (dimension) => ({
  label: WORDS[dimension],
  sort: "core_hours-down",
  key: (row) => JSON.stringify([row.cloud, row[dimension]]),
  columns: [
    name(dimension, dimension[0].toUpperCase() + dimension.slice(1), {
      opens: (row) => row[dimension] && { by: "vm", cloud: row.cloud, [dimension]: row[dimension] },
    }),
    ...(dimension === "cloud" ? [] : [name("cloud", "Cloud")]),
    number("vm_count", "VMs", count),
    ...EFFORT,
    number("silent_vms", "Silent VMs", count, { help: SILENT, odd: some }),
  ],
});

const measureOf = ({ measure }) => MEASURES.find(({ name: known }) => known === measure) ?? MEASURES[0];

const isMonth = ({ window, from }) => window === "this_month" && !from;

const figures = (data, state, { before }) => {
  const measure = measureOf(state);
  const by =
    SERIES_BY.includes(data.by ?? state.by) && data.series.some((row) => (state.by || "cloud") in row)
      ? state.by || "cloud"
      : "cloud";
  const choice = { options: MEASURES, chosen: measure.name, parameter: "measure" };
  const linkOf = (value) =>
    FILTERS.includes(by) && value !== "not known" ? { [by]: state[by] === value ? "" : value } : null;
  const ofWhom = whom(state, FILTERS);
  const effort =
    measure.name === "cumulative"
      ? cumulative({ id: "effort", title: `Core hours so far${ofWhom}`, data, before, measure: MEASURES[0], ...choice })
      : overTime({ id: "effort", title: `${measure.label} by ${by}${ofWhom}`, data, by, measure, linkOf, ...choice });
  const vms = byState({
    id: "vms",
    title: `VMs by state${ofWhom}`,
    data,
    unit: "vms",
    measures: { vm_count: "reporting", silent_vms: "silent" },
    linkOf: () => null,
  });
  return [effort, ...(vms.isEmpty ? [] : [vms])];
};

export const usage = {
  title: "Usage",
  filters: FILTERS,
  windowed: true,
  extras: (state) =>
    isMonth(state) && state.measure === "cumulative" ? { before: { window: "last_month", part: "series" } } : {},
  figures,
  facts: ({ totals }) => [
    ["Core hours", hours(totals.core_hours)],
    ["CPU hours", hours(totals.cpu_hours)],
    ["Efficiency", share(totals.efficiency)],
    ["HS23 hours", hs23(totals.hs23_hours, totals)],
    ["VMs", count(totals.vm_count)],
    ["Silent VMs", count(totals.silent_vms), { tone: totals.silent_vms ? "odd" : null }],
    ["Coverage", share(totals.coverage), { tone: totals.coverage < 0.995 ? "odd" : null }],
  ],
  empty:
    "No vm has reported in this window. Choose a longer one, boot a vm with vm.py, or run “make run” to see " +
    "this machine here.",
  displays: {
    cloud: effortBy("cloud"),
    site: effortBy("site"),
    group: effortBy("group"),
    flavor: effortBy("flavor"),
    vm: {
      label: "VMs",
      sort: "vm-up",
      key: ({ cloud, vm }) => JSON.stringify([cloud, vm]),
      columns: [
        name("vm", "VM", { opens: ({ cloud, vm }) => ({ by: "interval", cloud, vm }) }),
        name("cloud", "Cloud"),
        number("silent_vms", "Silent", either("silent", "no"), { help: SILENT, odd: some }),
        ...EFFORT,
        time("last_sampled_at", "Last report"),
        name("flavor", "Flavor"),
        number("cores", "Cores", count),
        name("cpu_model", "CPU"),
        number("benchmark_score", "Score per core", hours, {
          help: "of the benchmark at boot: HS23 where it says so, else points of its kernel",
        }),
        number("boot_count", "Boots", count),
        word("address", "Address"),
        word("agent_version", "Agent"),
        number("open_alarms", "Alarms", count, { odd: some }),
        ...ESTIMATES,
      ],
    },
    interval: {
      label: "Intervals",
      needs: "vm",
      sort: "from-down",
      key: ({ cloud, boot_at: boot, from }) => JSON.stringify([cloud, boot, from]),
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
