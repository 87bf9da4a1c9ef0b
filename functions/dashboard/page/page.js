// The page: reads what is asked for from the address, loads it, draws it, and does so again every minute.
import { Refused, load } from "./data.js";
import { say } from "./dom.js";
import { UNKNOWN, byName, duration, moment } from "./format.js";
import { drawPlot } from "./plot.js";
import { address, read, takeToken, token, write } from "./state.js";
import { drawTable } from "./table.js";
import { views } from "./views.js";

const RELOAD_MS = 60_000;
const AGE_MS = 5_000;
const WINDOWS = { hour: "Hour", day: "Day", week: "Week", month: "Month" };
const part = (id) => document.getElementById(id);
const shown = { view: null, data: null, loadedAt: null, clouds: [] };
let loading = new AbortController();

const viewOf = (state) => (Object.hasOwn(views, state.view) ? views[state.view] : views.usage);
const measureOf = (view, state) => view.measures.find(({ name }) => name === state.measure) ?? view.measures[0];

const queryOf = (state) => {
  const asked = { window: state.window, until: state.until, cloud: state.cloud, ...viewOf(state).query };
  return Object.entries(asked).filter(([, value]) => value);
};

const reload = async () => {
  loading.abort();
  const { signal } = (loading = new AbortController());
  const state = read();
  drawChoice(state);
  part("shown").setAttribute("aria-busy", "true");
  const { data, problem } = await load(queryOf(state), signal).then((data) => ({ data }), (problem) => ({ problem }));
  if (signal.aborted) return;
  part("shown").setAttribute("aria-busy", "false");
  part("signin").hidden = !(problem instanceof Refused);
  if (data) keep(data, state);
  if (data || problem.message) tellProblem(problem?.message ?? "");
};

const keep = (data, state) => {
  Object.assign(shown, { data, view: viewOf(state), loadedAt: Date.now() });
  shown.clouds = [...new Set([...shown.clouds, ...data.table.map(({ cloud }) => cloud)])].filter(Boolean).sort(byName);
  drawChoice(state);
  drawShown();
};

const drawChoice = (state) => {
  const view = viewOf(state);
  const links = d3.select(part("views")).selectAll("a").data(Object.entries(views)).join("a").text(([, { title }]) => title);
  links.attr("href", ([name]) => address({ view: name, sort: "", measure: "" })).attr("aria-current", ([, one]) => (one === view ? "page" : null));
  for (const input of part("windows").querySelectorAll("input")) input.checked = input.value === state.window;
  const clouds = [...new Set([...shown.clouds, state.cloud])].filter(Boolean);
  drawOptions(part("cloud"), [["", "all clouds"], ...clouds.map((name) => [name, name])], state.cloud);
  drawOptions(part("measure"), view.measures.map(({ name, label }) => [name, label]), measureOf(view, state)?.name);
  part("until").value = state.until.slice(0, 10);
  part("until").classList.toggle("unset", !state.until);
  for (const id of ["windows", "ends", "plotted"]) part(id).hidden = !view.measures.length;
};

const drawOptions = (select, pairs, chosen) => {
  const options = d3.select(select).selectAll("option").data(pairs, ([value]) => value).join("option");
  options.attr("value", ([value]) => value).attr("dir", "auto").call(say, ([, label]) => label);
  select.value = chosen;
};

const drawShown = () => {
  const { view, data } = shown;
  if (!data) return;
  const state = read();
  drawFacts(data.table.length ? view.facts(data) : []);
  drawFigure(view, data, measureOf(view, state));
  drawTable(part("listing"), view, data.table, state.sort, (sort) => choose({ sort }, drawShown));
  tellAge();
};

const drawFacts = (facts) => {
  const entries = d3.select(part("facts")).selectAll("div").data(facts, ([label]) => label).join((enter) => {
    const entry = enter.append("div");
    entry.append("dt").text(([label]) => label);
    entry.append("dd");
    return entry;
  });
  entries.select("dd").call(say, ([, value]) => value).attr("title", ([, value]) => (value === UNKNOWN ? "not known" : null));
};

const drawFigure = (view, data, measure) => {
  part("figure").hidden = !(measure && data.series.length);
  if (part("figure").hidden) return;
  part("figure-title").textContent = `${measure.label} by ${view.by}`;
  part("figure-step").textContent = `a bar is ${duration(data.step_seconds)} · UTC`;
  drawPlot(part("plot"), part("legend"), data, view.by, measure);
};

const tellAge = () => {
  if (!shown.data) return;
  const since = (at) => `${duration((Date.now() - at) / 1000)} ago`;
  const { from, until, last_sampled_at: last } = shown.data;
  const span = from ? [`${moment(from)} – ${moment(until)}`] : [];
  const newest = last === undefined ? [] : [last ? `newest report ${since(new Date(last))}` : "no report yet"];
  part("age").textContent = [...span, ...newest, `loaded ${since(shown.loadedAt)}`].join(" · ");
};

const tellProblem = (sentence) => {
  part("problem").textContent = sentence;
  part("problem").hidden = !sentence;
};

const choose = (change, then = reload) => {
  write(change);
  then();
};

// A window ends now, or as a chosen day begins.
const end = ({ value, validity }) => validity.valid && choose({ until: value && `${value}T00:00:00Z` });

const signIn = (event) => {
  event.preventDefault();
  token.set(part("token").value.trim());
  part("token").value = "";
  reload();
};

const begin = () => {
  takeToken();
  const labels = d3.select(part("windows")).selectAll("label").data(Object.entries(WINDOWS)).join("label");
  labels.append("input").attr("type", "radio").attr("name", "window").attr("value", ([name]) => name);
  labels.append("span").text(([, label]) => label);
  part("windows").addEventListener("change", ({ target }) => choose({ window: target.value }));
  part("cloud").addEventListener("change", ({ target }) => choose({ cloud: target.value }));
  part("measure").addEventListener("change", ({ target }) => choose({ measure: target.value }, drawShown));
  part("until").addEventListener("change", ({ target }) => end(target));
  part("choice").addEventListener("submit", (event) => event.preventDefault());
  part("signin").addEventListener("submit", signIn);
  addEventListener("hashchange", () => {
    takeToken();
    reload();
  });
  addEventListener("resize", drawShown);
  const again = () => document.hidden || !part("signin").hidden || reload();
  addEventListener("visibilitychange", again);
  setInterval(again, RELOAD_MS);
  setInterval(tellAge, AGE_MS);
  reload();
};

begin();
