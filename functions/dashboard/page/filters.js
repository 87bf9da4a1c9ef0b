// What the rows can be limited to: lists to choose from, and fields that complete what is typed.
import { part, say } from "./dom.js";
import { byName } from "./format.js";
import { select } from "./plot.min.js";

const LABELS = {
  cloud: ["Cloud", "all clouds"],
  site: ["Site", "all sites"],
  group: ["Group", "all groups"],
  vm: ["VM", "its whole name"],
  queue: ["Queue", "all queues"],
  status: ["Status", "all statuses"],
  error: ["Error", "all errors"],
  release: ["Release", "all releases"],
  task: ["Task", "all tasks"],
  system: ["System", "all systems"],
};
const SELECTED = ["cloud", "site", "group", "status", "system"];
const FIRST = ["cloud", "site", "group", "vm", "status", "error"];
const FIRST_OF_JOBS = ["cloud", "status", "error", "vm"];
const FIXED = { status: ["finished", "failed", "cancelled", "closed", "other"] };
const FROM_ROWS = { vm: "vm", error: "error", release: "release", task: "task_id", queue: "queue", system: "system" };
const MOST_KEPT = 500;
const seen = new Map(Object.entries(FIXED).map(([name, values]) => [name, new Set(values)]));

const learnValues = (name, values) => {
  const kept = seen.get(name) ?? new Set();
  for (const value of values) if (value && kept.size < MOST_KEPT) kept.add(String(value));
  seen.set(name, kept);
};

// What the data had to choose from stays choosable.
export const learn = ({ choices = {}, table = [] }) => {
  for (const [name, values] of Object.entries(choices ?? {})) learnValues(name, values);
  for (const [name, field] of Object.entries(FROM_ROWS))
    learnValues(
      name,
      table.map((row) => row[field]),
    );
};

export const drawFilters = (state, view) => {
  const isFirst = (name) => (view.filters.includes("status") ? FIRST_OF_JOBS : FIRST).includes(name) || state[name];
  const isUseful = (name) => ["cloud", "vm", "status", "error"].includes(name) || seen.get(name)?.size || state[name];
  const shown = view.filters.filter(isUseful);
  drawInputs(part("filters"), shown.filter(isFirst), state);
  drawInputs(
    part("more-filters"),
    shown.filter((name) => !isFirst(name)),
    state,
  );
  part("more").hidden = shown.every(isFirst);
};

const drawInputs = (place, names, state) => {
  const labels = select(place)
    .selectAll("label")
    .data(names, (name) => name)
    .join(newFilter)
    .order();
  labels.select("select").each(function fill(name) {
    const values = [...new Set([...(seen.get(name) ?? []), state[name]])].filter(Boolean);
    const sorted = FIXED[name] ? values : values.toSorted(byName);
    drawOptions(this, [["", LABELS[name][1]], ...sorted.map((value) => [value, value])], state[name]);
  });
  labels.select("input").each(function fill(name) {
    if (document.activeElement !== this) this.value = state[name];
  });
  labels.select("datalist").each(function fill(name) {
    const values = [...(seen.get(name) ?? [])].toSorted(byName);
    select(this)
      .selectAll("option")
      .data(values)
      .join("option")
      .attr("value", (value) => value);
  });
};

const newFilter = (enter) => {
  const labels = enter.append("label").text((name) => `${LABELS[name][0]} `);
  labels
    .filter((name) => SELECTED.includes(name))
    .append("select")
    .attr("id", (name) => name);
  const typed = labels.filter((name) => !SELECTED.includes(name));
  const inputs = typed
    .append("input")
    .attr("type", "search")
    .attr("id", (name) => name)
    .attr("dir", "auto");
  inputs
    .attr("placeholder", (name) => LABELS[name][1])
    .attr("autocomplete", "off")
    .attr("spellcheck", "false");
  inputs.attr("list", (name) => `all-${name}`);
  typed.append("datalist").attr("id", (name) => `all-${name}`);
  return labels;
};

const drawOptions = (list, pairs, chosen) => {
  const options = select(list)
    .selectAll("option")
    .data(pairs, ([value]) => value)
    .join("option")
    .order();
  options
    .attr("value", ([value]) => value)
    .attr("dir", "auto")
    .call(say, ([, label]) => label);
  list.value = chosen ?? "";
};
