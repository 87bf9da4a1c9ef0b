// The controls: which view, window, filters and rows.
import { part, say, sayName } from "./dom.js";
import { byName } from "./format.js";
import { select } from "./plot.min.js";
import { FILTERS, RESET, address } from "./state.js";
import { displayNameOf, displayOf, viewNameOf, viewOf, views } from "./views.js";
import { fromInput, toInput, zoneName } from "./zone.js";

const WINDOWS = {
  hour: "Hour",
  day: "Day",
  week: "Week",
  month: "30 days",
  this_month: "This month",
  last_month: "Last month",
};
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

export const drawChoice = (state, openAlarms) => {
  const view = viewOf(state);
  drawViews(state, openAlarms);
  const isWindow = !state.from;
  for (const input of part("windows").querySelectorAll("input"))
    input.checked = isWindow && input.value === state.window;
  for (const id of ["windows", "range"]) part(id).hidden = !view.windowed;
  for (const id of ["from", "until"]) drawMoment(part(id), state[id]);
  select(part("range")).select(".unit").call(say, zoneName);
  drawFilters(state, view);
  drawTrail(state, view);
  drawDisplays(state, view);
};

// A vm stays chosen from view to view, and is shown in its finest rows. A filter that a view does not have is dropped.
const drawViews = (state, openAlarms) => {
  const links = select(part("views"))
    .selectAll("a")
    .data(Object.entries(views), ([name]) => name)
    .join((enter) => {
      const link = enter.append("a").text(([, { title }]) => title);
      link
        .filter(([name]) => name === "overview")
        .append("span")
        .attr("class", "badge")
        .attr("hidden", "");
      return link;
    });
  links.attr("aria-current", ([name]) => (name === viewNameOf(state) ? "page" : null));
  links.attr("href", ([name, view]) => {
    const by = state.vm && view.filters.includes("vm") ? finest(view) : "";
    return address({ ...RESET, ...dropped(view, viewOf(state)), view: name, measure: "", month: "", by });
  });
  const badge = links.select(".badge").attr("hidden", openAlarms ? null : "");
  badge.call(say, () => String(openAlarms ?? "")).attr("title", `${openAlarms} open alarms`);
  part("views")
    .querySelector("a")
    .setAttribute("aria-label", openAlarms ? `Overview, ${openAlarms} open alarms` : "Overview");
};

const finest = ({ displays }) => (displays.interval ? "interval" : displays.job ? "job" : "");

// The filters that two views do not share, empty.
const dropped = (view, other) => {
  const isShared = (name) => view.filters.includes(name) && other.filters.includes(name);
  return Object.fromEntries(FILTERS.filter((name) => !isShared(name)).map((name) => [name, ""]));
};

const drawMoment = (input, moment) => {
  if (document.activeElement !== input || !input.value) input.value = toInput(moment);
  input.classList.toggle("unset", !moment);
};

const drawFilters = (state, view) => {
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
    const sorted = FIXED[name] ? values : values.sort(byName);
    drawOptions(this, [["", LABELS[name][1]], ...sorted.map((value) => [value, value])], state[name]);
  });
  labels.select("input").each(function fill(name) {
    if (document.activeElement !== this) this.value = state[name];
  });
  labels.select("datalist").each(function fill(name) {
    const values = [...(seen.get(name) ?? [])].sort(byName);
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

// From all clouds to a cloud and its vm, and what else limits the rows; each step back is a link.
const drawTrail = (state, view) => {
  const steps = stepsOf(state, view);
  part("trail").hidden = steps.length < 2;
  const links = select(part("trail"))
    .selectAll("a")
    .data(steps, ({ name }) => name)
    .join("a")
    .order();
  links.attr("href", ({ to }) => address({ ...RESET, ...to })).attr("class", ({ kind }) => kind);
  links
    .attr("aria-current", ({ isHere }) => (isHere ? "true" : null))
    .attr("aria-label", ({ spoken }) => spoken ?? null);
  links.call(sayName, ({ label }) => label);
};

const stepsOf = (state, view) => {
  const { cloud } = state;
  const vm = view.filters.includes("vm") ? state.vm : "";
  const all = { name: "all", kind: "step", label: "All clouds", to: { by: "", cloud: "", vm: "" } };
  const steps = [all];
  if (cloud)
    steps.push({
      name: "cloud",
      kind: "step",
      label: cloud,
      to: { by: view.displays.vm ? "vm" : "", vm: "" },
      isHere: !vm,
    });
  if (vm) steps.push({ name: "vm", kind: "step", label: vm, to: {}, isHere: true });
  const sides = (vm ? ["usage", "jobs"] : []).map((name) => sideOf(name, state));
  const more = view.filters.filter((name) => !["cloud", "vm"].includes(name) && state[name]);
  const chips = more.map((name) => {
    const label = `${name} ${state[name]}`;
    return { name, kind: "chip", label, spoken: `${label}: show all again`, to: { [name]: "" } };
  });
  return [...steps, ...sides, ...chips];
};

const sideOf = (name, state) => ({
  name: views[name].title,
  kind: "side",
  label: name === "jobs" ? "its jobs" : "its intervals",
  to: { ...dropped(views[name], viewOf(state)), view: name, by: finest(views[name]) },
  isHere: name === viewNameOf(state) && displayNameOf(state) === finest(views[name]),
});

const drawDisplays = (state, view) => {
  const offered = Object.entries(view.displays).filter(([, { needs }]) => !needs || state[needs]);
  const entries = offered.length > 1 ? offered : [];
  const links = select(part("displays"))
    .selectAll("a")
    .data(entries, ([name]) => view.title + name)
    .join("a")
    .order();
  links.text(([, { label }]) => label).attr("href", ([name]) => address({ ...RESET, by: name }));
  links.attr("aria-current", ([name]) => (name === displayNameOf(state) ? "true" : null));
  part("listing-title").textContent = offered.length > 1 ? `${view.title} by` : displayOf(state).label;
};

// Calls with each change that a person makes by a control.
export const listen = (choose) => {
  const labels = select(part("windows")).selectAll("label").data(Object.entries(WINDOWS)).join("label");
  labels
    .append("input")
    .attr("type", "radio")
    .attr("name", "window")
    .attr("value", ([name]) => name);
  labels.append("span").text(([, label]) => label);
  part("windows").addEventListener("change", ({ target }) => choose({ window: target.value, from: "", offset: "" }));
  part("choice").addEventListener("change", ({ target }) => {
    if (FILTERS.includes(target.id)) choose({ ...RESET, [target.id]: target.value.trim() });
  });
  for (const id of ["from", "until"]) part(id).addEventListener("change", ({ target }) => range(id, target, choose));
  part("choice").addEventListener("submit", (event) => event.preventDefault());
};

const range = (id, { value, validity }, choose) => validity.valid && choose({ [id]: fromInput(value), offset: "" });
