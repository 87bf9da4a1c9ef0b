// Who took what?
import { name, number, some, time, word } from "./columns.js";
import { overTime, whom } from "./figures.js";
import { count } from "./format.js";

const FILTERS = ["cloud", "vm"];
const STATES = ["waiting", "delivered", "expired", "revoked"];
const ENDS = { name: "secret_count", unit: "secrets", whole: true };

export const secrets = {
  title: "Secrets",
  filters: FILTERS,
  windowed: true,
  figures: (data, state) => {
    const title = `Secrets that came to their end, by state${whom(state, FILTERS)}`;
    return [overTime({ id: "ends", title, data, by: "state", measure: ENDS, linkOf: () => null })];
  },
  facts: ({ totals }) => [
    ...STATES.map((state) => [state[0].toUpperCase() + state.slice(1), count(totals[`${state}_count`])]),
    ["Contested", count(totals.contested_count), { tone: totals.contested_count ? "bad" : null }],
    ["Taken and lost", count(totals.unreported_count), { tone: totals.unreported_count ? "odd" : null }],
  ],
  empty: "No secret waits, and none came to its end in this window. The scheduler leaves one with “skytally deposit”.",
  displays: {
    secret: {
      label: "Secrets",
      sort: "at-down",
      key: ({ claim, vm }) => JSON.stringify([claim, vm]),
      columns: [
        name("vm", "VM", { opens: ({ cloud, vm }) => vm && { view: "usage", by: "interval", cloud, vm } }),
        name("cloud", "Cloud"),
        word("state", "State", { odd: (value) => value === "damaged" }),
        time("at", "Since"),
        time("expires_at", "Expires"),
        word("address", "Taken from"),
        number("contested_count", "Contested", count, {
          odd: some,
          help: "another key with a valid proof wanted it: two parties hold the token",
        }),
        word("other_hostname", "Calls itself", {
          odd: (value) => value !== null,
          help: "the host that took it names itself otherwise than the scheduler expected",
        }),
        word("boot", "Boot", {
          odd: (value) => value === "lost",
          help:
            "waiting for its vm; taken, and not heard of yet; reports; or lost, where no report came within 20 " +
            "minutes",
        }),
      ],
    },
  },
};
