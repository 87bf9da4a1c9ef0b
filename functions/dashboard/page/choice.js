// The controls: which view, window, filters and rows.
import { part, say, sayName } from "./dom.js";
import { drawFilters } from "./filters.js";
import { select } from "./plot.min.js";
import { FILTERS, RESET, address } from "./state.js";
import { displayNameOf, displayOf, viewNameOf, viewOf, views } from "./views.js";
import { fromInput, toInput, zoneName } from "./zone.js";

const WINDOWS = {
  hour: "Hour",
  day: "Day",
  week: "Week",
  month: "Month",
  this_month: "This month",
  last_month: "Last month",
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
    // What is broken is asked of now, whatever time another view shows.
    const time = name === "overview" ? { from: "", until: "" } : {};
    return address({ ...RESET, ...dropped(view, viewOf(state)), ...time, view: name, measure: "", month: "", by });
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
