// Is anything broken, and where?
import { ALARM, FAILED_SHARE, message, name, number, some, state, time, word } from "./columns.js";
import { UNKNOWN, count, duration, hours, share } from "./format.js";
import { sparkline } from "./charts.js";

const isOpen = ({ resolved_at: resolvedAt }) => !resolvedAt;
const MOST_ALARMS = 12;
const DAY_MS = 86_400_000;

const curveOf = (row, data) => {
  const points = data.series.filter(({ cloud }) => cloud === row.cloud);
  if (!points.length) return null;
  const values = points.map(({ failed_share: value }) => value).filter((value) => value !== null);
  const spoken = values.length ? `at most ${share(Math.max(...values))}` : "no jobs";
  return sparkline({
    points: points.map(({ failed_share: value, ...point }) => ({ ...point, value })),
    from: new Date(new Date(data.until) - DAY_MS),
    until: data.until,
    label: `failed share of ${row.cloud ?? "an unknown cloud"} by hour over the last day: ${spoken}`,
  });
};

const onClouds = ({ cloud }) => cloud && { view: "jobs", by: "error", cloud };

export const overview = {
  title: "Overview",
  filters: ["cloud"],
  facts: ({ totals }) => [
    ["Open alarms", count(totals.open_alarms), { tone: totals.open_alarms ? "bad" : "good" }],
    ["Failed share", share(totals.failed_share), { tone: totals.failed_share >= 0.1 ? "odd" : null }],
    ["Jobs", count(totals.job_count)],
    ["Core hours", hours(totals.core_hours)],
    ["VMs reporting", count(totals.reporting_vms)],
    ["Silent VMs", count(totals.silent_vms), { tone: totals.silent_vms ? "odd" : null }],
    ["Failing timers", count(totals.failing_timers), { tone: totals.failing_timers ? "bad" : null }],
    ["Failing sources", count(totals.failing_sources), { tone: totals.failing_sources ? "bad" : null }],
  ],
  empty: "No cloud has reported or run jobs in this hour.",
  displays: {
    cloud: {
      label: "Clouds in the last hour, worst first",
      sort: "failed_share-down",
      key: ({ cloud }) => JSON.stringify(cloud),
      columns: [
        name("cloud", "Cloud", { opens: onClouds }),
        FAILED_SHARE,
        { name: "curve", label: "Last day", format: () => "", draw: curveOf, isFixed: true, isWord: true },
        number("job_count", "Jobs", count),
        name("commonest_error", "Commonest error", {
          isWord: true,
          format: (error, row) => (error ? `${error} (${count(row.commonest_error_count)})` : UNKNOWN),
          opens: ({ cloud, commonest_error: error }, { from, until }) =>
            error && { view: "jobs", by: "job", cloud, error, status: "failed", from, until },
          about: ({ commonest_error_message: words }) => words,
        }),
        number("reporting_vms", "VMs reporting", count),
        number("silent_vms", "Silent", count, {
          odd: some,
          opens: ({ cloud, silent_vms: silent }) =>
            silent > 0 && { view: "usage", by: "vm", cloud, sort: "silent_vms-down" },
        }),
        number("booting_vms", "Booting", count, { help: "took their secret and have not reported yet" }),
        number("core_hours", "Core hours", hours),
        number("efficiency", "Efficiency", share),
        number("open_alarms", "Alarms", count, { odd: some }),
      ],
    },
  },
  before: (data) => {
    const open = (data.alarms ?? []).filter(isOpen);
    return [
      {
        id: "alarms",
        title: "Open alarms, newest first",
        rows: open.slice(0, MOST_ALARMS),
        columns: ALARM,
        key: ({ kind, subject, cloud, vm }) => JSON.stringify([kind, subject, cloud, vm]),
        empty: "No alarm is open.",
        more: open.length > MOST_ALARMS ? [`and ${count(open.length - MOST_ALARMS)} more`, { view: "health" }] : null,
      },
    ];
  },
  after: (data) => [
    {
      id: "late",
      title: "Timers and sources that fail or are late",
      rows: data.late ?? [],
      key: ({ kind, subject }) => JSON.stringify([kind, subject]),
      empty: "All timers and sources are on time.",
      columns: [
        name("subject", "What", { opens: () => ({ view: "health" }) }),
        word("kind", "Kind"),
        state("State", { odd: () => true }),
        time("since", "Since"),
        number("period_seconds", "Period", duration),
        message("message", "Message"),
      ],
    },
  ],
};
