// Is skytally well?
import { ENDED_ALARM, message, name, number, state, time, word } from "./columns.js";
import { count, duration } from "./format.js";

const CALM = ["well", "running", "off"];

export const health = {
  title: "Health",
  filters: ["cloud"],
  facts: ({ totals }) => [
    ["Open alarms", count(totals.open_alarms), { tone: totals.open_alarms ? "bad" : "good" }],
    ["Failing timers", count(totals.failing_timers), { tone: totals.failing_timers ? "bad" : null }],
    ["Timers not run yet", count(totals.timers_never_run)],
    ["Failing sources", count(totals.failing_sources), { tone: totals.failing_sources ? "bad" : null }],
    ["Left out unread", count(totals.unreadable_things), { tone: totals.unreadable_things ? "odd" : null }],
  ],
  empty: "There are no timers and no alarms of this cloud here.",
  displays: {
    all: {
      label: "Timers, sources, faults and alarms",
      sort: "kind-up",
      key: ({ kind, subject, cloud }) => JSON.stringify([kind, subject, cloud]),
      columns: [
        name("subject", "What"),
        word("kind", "Kind"),
        name("cloud", "Cloud"),
        state("State", { odd: (value) => !CALM.includes(value) }),
        message("message", "Message"),
        time("since", "Since", {
          help:
            "a timer's last success; until when a source is collected; when a fault or an alarm began, or was " +
            "last met",
        }),
        number("period_seconds", "Period", duration),
      ],
    },
  },
  after: ({ history }) =>
    history === undefined
      ? []
      : [
          {
            id: "history",
            title: "Alarms of the last 31 days",
            rows: history,
            columns: ENDED_ALARM,
            key: ({ kind, subject, cloud, raised_at: raised }) => JSON.stringify([kind, subject, cloud, raised]),
            empty: "No alarm was raised in the last 31 days.",
          },
        ],
};
