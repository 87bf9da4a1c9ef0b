// The controls: which view, window, filters and rows.
import { say, sayName } from "./dom.js";
import { byName } from "./format.js";
import { ANEW, address } from "./state.js";
import { displayNameOf, displayOf, viewOf, views } from "./views.js";

const WINDOWS = { hour: "Hour", day: "Day", week: "Week", month: "Month" };
const FILTERS = { cloud: ["Cloud", "all clouds"], site: ["Site", "all sites"], group: ["Group", "all groups"], queue: ["Queue", "all queues"], vm: ["VM", "its whole name"] };
const MORE = { error: "error", release: "release" };
const part = (id) => document.getElementById(id);
const known = new Map();

// What the data had to choose from stays choosable.
export const learn = (choices = {}) => {
  for (const [name, values] of Object.entries(choices)) known.set(name, new Set([...(known.get(name) ?? []), ...values]));
};

export const drawChoice = (state) => {
  const view = viewOf(state);
  drawViews(state, view);
  for (const input of part("windows").querySelectorAll("input")) input.checked = !state.from && input.value === state.window;
  for (const id of ["windows", "range"]) part(id).hidden = !view.windowed;
  for (const id of ["from", "until"]) drawMoment(part(id), state[id]);
  drawFilters(state, view);
  drawTrail(state, view);
  drawDisplays(state, view);
  drawOptions(part("measure"), view.measures.map(({ name, label }) => [name, label]), measureOf(state)?.name);
  part("plotted").hidden = view.measures.length < 2;
};

export const measureOf = (state) => viewOf(state).measures.find(({ name }) => name === state.measure) ?? viewOf(state).measures[0];

// A vm stays chosen from view to view, and is shown in its finest rows.
const drawViews = (state, view) => {
  const links = d3.select(part("views")).selectAll("a").data(Object.entries(views)).join("a").text(([, { title }]) => title);
  links.attr("aria-current", ([, one]) => (one === view ? "page" : null));
  links.attr("href", ([name, one]) => address({ ...ANEW, ...dropped(one), view: name, measure: "", by: state.vm ? finest(one) : "" }));
};

const finest = ({ displays }) => (displays.interval ? "interval" : displays.job ? "job" : "");

const dropped = ({ filters }) => {
  const kept = new Set(filters);
  return Object.fromEntries([...Object.keys(FILTERS), ...Object.keys(MORE)].filter((name) => !kept.has(name)).map((name) => [name, ""]));
};

const drawMoment = (input, moment) => {
  if (document.activeElement !== input || !input.value) input.value = moment.slice(0, 16);
  input.classList.toggle("unset", !moment);
};

const drawFilters = (state, view) => {
  const shown = view.filters.filter((name) => ["cloud", "vm"].includes(name) || known.get(name)?.size || state[name]);
  const labels = d3.select(part("filters")).selectAll("label").data(shown, (name) => name).join(newFilter).order();
  labels.select("select").each(function fill(name) {
    const names = [...new Set([...(known.get(name) ?? []), state[name]])].filter(Boolean).sort(byName);
    drawOptions(this, [["", FILTERS[name][1]], ...names.map((one) => [one, one])], state[name]);
  });
  labels.select("input").each(function fill(name) {
    if (document.activeElement !== this) this.value = state[name];
  });
};

const newFilter = (enter) => {
  const labels = enter.append("label").text((name) => `${FILTERS[name][0]} `);
  labels.filter((name) => name !== "vm").append("select").attr("id", (name) => name);
  const inputs = labels.filter((name) => name === "vm").append("input").attr("type", "search").attr("id", (name) => name).attr("dir", "auto");
  inputs.attr("placeholder", (name) => FILTERS[name][1]).attr("autocomplete", "off").attr("spellcheck", "false");
  return labels;
};

const drawOptions = (select, pairs, chosen) => {
  const options = d3.select(select).selectAll("option").data(pairs, ([value]) => value).join("option").order();
  options.attr("value", ([value]) => value).attr("dir", "auto").call(say, ([, label]) => label);
  select.value = chosen ?? "";
};

// From all clouds to one and its vm, and what else holds the rows; each step back is a link.
const drawTrail = (state, view) => {
  const steps = stepsOf(state, view);
  part("trail").hidden = steps.length < 2;
  const links = d3.select(part("trail")).selectAll("a").data(steps, ({ name }) => name).join("a");
  links.attr("href", ({ to }) => address({ ...ANEW, ...to })).attr("class", ({ kind }) => kind);
  links.attr("aria-current", ({ here }) => (here ? "true" : null)).attr("aria-label", ({ spoken }) => spoken ?? null).call(sayName, ({ label }) => label);
};

const stepsOf = (state, view) => {
  const { cloud, vm } = state;
  const all = { name: "all", kind: "step", label: "All clouds", to: { by: "", cloud: "", vm: "" } };
  const steps = cloud || vm ? [all] : [];
  if (cloud) steps.push({ name: "cloud", kind: "step", label: cloud, to: { by: view.displays.vm ? "vm" : "", vm: "" }, here: !vm });
  if (vm) steps.push({ name: "vm", kind: "step", label: vm, to: {}, here: true });
  const also = vm ? ["usage", "jobs"].map((name) => views[name]) : [];
  const sides = also.map((one) => ({ name: one.title, kind: "side", label: one === views.jobs ? "its jobs" : "its intervals", to: { ...dropped(one), view: one.title.toLowerCase(), by: finest(one) }, here: one === view && displayNameOf(state) === finest(one) }));
  const more = Object.keys(MORE).filter((name) => state[name]);
  const chips = more.map((name) => ({ name, kind: "chip", label: `${MORE[name]} ${state[name]}`, spoken: `${MORE[name]} ${state[name]}: show all again`, to: { [name]: "" } }));
  return chips.length && !steps.length ? [all, ...chips] : [...steps, ...sides, ...chips];
};

const drawDisplays = (state, view) => {
  const offered = Object.entries(view.displays).filter(([, { needs }]) => !needs || state[needs]);
  const links = d3.select(part("displays")).selectAll("a").data(offered.length > 1 ? offered : [], ([name]) => view.title + name).join("a");
  links.text(([, { label }]) => label).attr("href", ([name]) => address({ ...ANEW, by: name }));
  links.attr("aria-current", ([name]) => (name === displayNameOf(state) ? "true" : null));
  part("listing-title").textContent = offered.length > 1 ? `${view.title} by` : displayOf(state).label;
};

// Calls with each change that a person makes by a control.
export const listen = (choose) => {
  const labels = d3.select(part("windows")).selectAll("label").data(Object.entries(WINDOWS)).join("label");
  labels.append("input").attr("type", "radio").attr("name", "window").attr("value", ([name]) => name);
  labels.append("span").text(([, label]) => label);
  part("windows").addEventListener("change", ({ target }) => choose({ window: target.value, from: "", offset: "" }));
  part("filters").addEventListener("change", ({ target }) => choose({ ...ANEW, [target.id]: target.value.trim() }));
  for (const id of ["from", "until"]) part(id).addEventListener("change", ({ target }) => range(id, target, choose));
  part("choice").addEventListener("submit", (event) => event.preventDefault());
};

const range = (id, { value, validity }, choose) => validity.valid && choose({ [id]: value && `${value.slice(0, 16)}:00Z`, offset: "" });
