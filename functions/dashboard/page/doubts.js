// What the numbers do not know, in words.
import { sayName } from "./dom.js";
import { count, seconds, several, share, when } from "./format.js";
import { select } from "./plot.min.js";
import { RESET, address } from "./state.js";

const vms = ({ vm_count: number }) => several(number, "vm");

// For each kind of doubt: a few words, and what it means.
const WORDS = {
  latest: () => [
    "the last hour",
    "Vms report once an hour: what they did since their last report is not in these numbers yet.",
  ],
  unheard: ({ coverage }) => [
    `coverage ${share(coverage)}`,
    "Of this share of the time that vms were up reports arrived. What lies in lost reports is missing from " +
      "every sum of this window; a month's statement has it.",
  ],
  silent: (one) => [
    `${several(one.vm_count, "silent vm")}`,
    "No report for two hours and no last one: they may work unheard, or be gone. Silent since:",
  ],
  clock_offset: (one) => [
    `clocks of ${vms(one)}`,
    "Their clocks differ from the server's by more than half a minute, so what they did stands at the wrong " +
      "time by as much. Seconds ahead:",
  ],
  clock_ahead: (one) => [
    `future times of ${vms(one)}`,
    "They reported times that had not come yet; the server's own count instead. Of:",
  ],
  estimated_edge: (one) => [
    `estimates of ${vms(one)}`,
    "Nobody measured where the month began, so the time around it is shared out evenly; or how many cores " +
      "there were before vm.py first ran or lost its state, so the kernel's ticks are the core time. Of:",
  ],
  quarantined_benchmark: (one) => [
    `benchmarks of ${vms(one)}`,
    "Their scores are far from those of vms like them, or no core can have them; the usual one counts, if " +
      "there is one, until a person confirms them. Of:",
  ],
  no_hs23: (one) => [
    `HS23 of ${vms(one)}`,
    "Their benchmark says nothing in HS23, and the site data do not translate it: HS23 hours are those of the " +
      "others, and more than shown. Of:",
  ],
  unknown_cloud: (one) => [
    `the cloud of ${several(one.job_count, "job")}`,
    "No placement says where these ran: scheduler.py on the batch system's host reports it, and they join later.",
  ],
  impossible_times: (one) => [
    `CPU time of ${several(one.job_count, "job")}`,
    "Their times cannot be, such as an end before the begin or more CPU than cores; it is left out.",
  ],
  kept_days: (one) => [`secrets before the last ${one.days} days`, "Older evidence is not listed here."],
};

const VALUES = { silent: (value) => when(value), clock_offset: (value) => `${seconds(value)} s` };

export const drawDoubts = (place, data) => {
  const found = told(data);
  place.hidden = !found.length;
  place.querySelector("#doubts-short").textContent = `Not known: ${found.map(([short]) => short).join(" · ")}`;
  const items = select(place.querySelector("#doubts-long"))
    .selectAll("li")
    .data(found)
    .join((enter) => {
      const item = enter.append("li");
      item.append("span");
      item.append("span").attr("class", "subjects");
      return item;
    });
  items.select("span").text(([, long]) => long);
  drawSubjects(items.select(".subjects"));
};

const told = (data) => {
  const mine = [...(data.doubts ?? [])];
  if (data.view === "usage" && data.coverage !== null && data.coverage < 1)
    mine.unshift({ kind: "unheard", coverage: data.coverage });
  if (["overview", "usage"].includes(data.view) && data.row_count && isLatest(data)) mine.push({ kind: "latest" });
  return mine.filter(({ kind }) => Object.hasOwn(WORDS, kind)).map((one) => [...WORDS[one.kind](one), one]);
};

const isLatest = ({ until, generated_at: now }) => new Date(now) - new Date(until) < 3_600_000;

const drawSubjects = (places) => {
  const named = places
    .selectAll("a")
    .data(([, , { kind, vms: some = [] }]) => some.map((one) => ({ kind, ...one })))
    .join("a");
  named.attr("href", ({ cloud, vm }) => address({ ...RESET, view: "usage", by: "interval", cloud, vm }));
  named.attr("title", ({ cloud }) => cloud).call(sayName, ({ vm }) => vm);
  const values = named
    .selectAll("small")
    .data((one) => (VALUES[one.kind] ? [one] : []))
    .join("small");
  values.text(({ kind, value }) => ` ${VALUES[kind](value)}`);
  const more = ([, , { vm_count: number = 0, vms: some = [] }]) =>
    number > some.length ? [`and ${count(number - some.length)} more: the table of VMs has them`] : [];
  places
    .selectAll("small.more")
    .data(more)
    .join("small")
    .attr("class", "more")
    .text((sentence) => sentence);
};
