// The page: reads what is asked for from the address, loads it, draws it, and does so again every minute.
import { Refused, load } from "./data.js";
import { ago, moment } from "./format.js";
import { drawPlot } from "./plot.js";
import { read, token, write } from "./state.js";
import { drawTable, element } from "./table.js";
import { views } from "./views.js";

const RELOAD_MS = 60_000;
const WINDOWS = { hour: "Hour", day: "Day", week: "Week", month: "Month" };
const part = (id) => document.getElementById(id);
const shown = { data: null, loadedAt: null, clouds: new Set() };

const drawChoice = (state) => {
  const view = views[state.view] ?? views.usage;
  part("views").replaceChildren(...Object.entries(views).map(([name, { title }]) => viewButton(name, title, views[name] === view)));
  for (const input of part("windows").querySelectorAll("input")) input.checked = input.value === state.window;
  if (state.cloud) shown.clouds.add(state.cloud);
  options(part("cloud"), [["", "all clouds"], ...[...shown.clouds].sort().map((name) => [name, name])], state.cloud);
  options(part("measure"), view.measures.map(({ name, label }) => [name, label]), state.measure || view.measures[0]?.name);
  part("measure").parentElement.hidden = part("windows").hidden = !view.measures.length;
};

const viewButton = (name, title, current) => {
  const button = element("button", { type: "button", "aria-current": current ? "page" : undefined }, title);
  button.addEventListener("click", () => choose({ view: name, sort: "", measure: "" }));
  return button;
};

const options = (select, pairs, chosen) => {
  select.replaceChildren(...pairs.map(([value, label]) => element("option", { value }, label)));
  select.value = chosen;
};

const draw = () => {
  const [state, data] = [read(), shown.data];
  drawChoice(state);
  part("figure").hidden = !data?.series.length;
  if (!data) return;
  const view = views[data.view];
  const measure = view.measures.find(({ name }) => name === state.measure) ?? view.measures[0];
  part("facts").replaceChildren(...(data.table.length ? view.facts(data) : []).map(([label, value]) => fact(label, value)));
  if (measure) part("figure-title").textContent = `${measure.label} by ${view.by}`;
  if (data.series.length) drawPlot(part("plot"), part("legend"), data, view.by, measure);
  drawTable(part("listing"), view, data.table, state.sort, (sort) => choose({ sort }, false));
};

const fact = (label, value) => element("div", {}, element("b", {}, value), element("span", {}, label));

const tellAge = () => {
  if (!shown.data) return;
  const { from, until, last_sampled_at: last } = shown.data;
  const newest = last ? `newest report ${ago((Date.now() - new Date(last)) / 1000)} ago` : "no report yet";
  const span = from ? `${moment(from)} – ${moment(until)} · ${newest} · ` : "";
  part("status").textContent = `${span}loaded ${ago((Date.now() - shown.loadedAt) / 1000)} ago`;
};

const tellProblem = (sentence) => {
  part("problem").textContent = sentence;
  part("problem").hidden = !sentence;
};

const reload = async () => {
  const state = read();
  try {
    const data = await load(state);
    if (JSON.stringify(state) !== JSON.stringify(read())) return;
    Object.assign(shown, { data, loadedAt: Date.now() });
    if (!state.cloud) shown.clouds = new Set(data.table.map(({ cloud }) => cloud));
    part("signin").hidden = true;
    tellProblem("");
  } catch (problem) {
    part("signin").hidden = !(problem instanceof Refused);
    tellProblem(problem.message);
  }
  draw();
  tellAge();
};

const choose = (change, reloading = true) => {
  write(change);
  if (reloading) reload();
  else draw();
};

const begin = () => {
  for (const [value, label] of Object.entries(WINDOWS)) {
    const input = element("input", { type: "radio", name: "window", value });
    input.addEventListener("change", () => choose({ window: value }));
    part("windows").append(element("label", {}, input, label));
  }
  part("cloud").addEventListener("change", (event) => choose({ cloud: event.target.value }));
  part("measure").addEventListener("change", (event) => choose({ measure: event.target.value }, false));
  part("choice").addEventListener("submit", (event) => event.preventDefault());
  part("signin").addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(part("token").value.trim());
    part("token").value = "";
    reload();
  });
  addEventListener("hashchange", reload);
  addEventListener("resize", draw);
  addEventListener("visibilitychange", () => document.hidden || reload());
  setInterval(() => document.hidden || reload(), RELOAD_MS);
  setInterval(tellAge, 1000);
  reload();
};

begin();
