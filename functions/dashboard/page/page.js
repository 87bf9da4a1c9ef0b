// The page: reads what is asked for from the address, loads it, draws it, and does so again every minute.
import { drawChoice, learn, listen, measureOf } from "./choice.js";
import { Refused, load } from "./data.js";
import { say, visible } from "./dom.js";
import { drawDoubts } from "./doubts.js";
import { saveAs } from "./download.js";
import { UNKNOWN, count, duration, moment, several } from "./format.js";
import { drawPlot } from "./plot.js";
import { read, takeToken, token, write } from "./state.js";
import { drawTable } from "./table.js";
import { displayNameOf, shownDisplayOf, sortOf, viewOf } from "./views.js";

const RELOAD_MS = 60_000;
const AGE_MS = 5_000;
const STALE_MS = 3 * RELOAD_MS;
const MOST_ROWS = 100;
const FILTERS = ["cloud", "site", "group", "vm", "queue", "release", "error"];
const part = (id) => document.getElementById(id);
const shown = { table: null, series: null, state: null, loadedAt: null };
let loading = new AbortController();
// What is not here yet of what the address says; an order that is chosen meanwhile must not leave the plot behind.
let missing = "none";

const queryOf = (state) => {
  const view = viewOf(state);
  const time = state.from ? { from: state.from, until: state.until } : { window: state.window, until: state.until };
  const held = Object.fromEntries(FILTERS.filter((name) => view.filters.includes(name) || !["site", "group", "queue"].includes(name)).map((name) => [name, state[name]]));
  const asked = { view: view.title.toLowerCase(), ...(view.windowed ? time : {}), ...held, sort: sortOf(state) };
  if (Object.keys(view.displays).length > 1) asked.by = displayNameOf(state);
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value));
};

const reload = async (change = "all") => {
  loading.abort();
  const wanted = (missing = missing === "all" ? "all" : change);
  const { signal } = (loading = new AbortController());
  const state = read();
  // Asked before anything is drawn: the server works meanwhile.
  const asked = load({ ...queryOf(state), part: wanted, limit: MOST_ROWS, offset: state.offset || 0 }, signal);
  drawChoice(state);
  wait(wanted);
  const problem = await asked.then((data) => signal.aborted || keep(wanted, data, state)).then(() => null, (reason) => reason);
  if (signal.aborted) return;
  if (!problem) missing = "none";
  wait("none");
  part("signin").hidden = !(problem instanceof Refused);
  if (!problem || problem.message) tellProblem(problem?.message ?? "");
};

const wait = (wanted) => {
  part("shown").setAttribute("aria-busy", String(wanted !== "none"));
  for (const id of ["facts", "listing"]) part(id).classList.toggle("waiting", wanted !== "none");
  part("figure").classList.toggle("waiting", wanted === "all");
};

const keep = (wanted, data, state) => {
  Object.assign(shown, { table: data, state, loadedAt: Date.now() }, wanted === "all" ? { series: data } : {});
  learn(data.choices);
  drawChoice(read());
  drawListing();
  drawFigure();
  tellAge();
};

const drawListing = () => {
  const { table: data, state } = shown;
  const focused = document.activeElement;
  const view = viewOf(state);
  drawFacts(data.row_count ? view.facts(data) : []);
  drawDoubts(part("doubts"), data);
  part("listing").hidden = false;
  drawTable(part("rows"), shownDisplayOf(state), data.table, sortOf(state), emptyOf(state), (sort) => choose({ sort, offset: "" }, "table"));
  drawPager(data, state);
  part("downloads").hidden = !data.row_count;
  if (focused !== document.body && !document.contains(focused)) part("listing-title").focus({ preventScroll: true });
  part("status").textContent = `${view.title}: ${several(data.row_count, "row")}`;
  document.title = [view.title, visible(state.cloud), visible(state.vm), "skytally"].filter(Boolean).join(" · ");
};

const emptyOf = (state) => {
  const held = FILTERS.filter((name) => state[name]).map((name) => `${name} ${visible(state[name])}`);
  return held.length ? `Nothing in this window of ${held.join(", ")}. Names are whole and exact; choose a longer window or fewer filters.` : viewOf(state).empty;
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

const drawPager = ({ row_count: all, table }, state) => {
  const first = Number(state.offset || 0);
  part("pager").hidden = all <= table.length;
  part("pager-span").textContent = table.length ? `Rows ${count(first + 1)} to ${count(first + table.length)} of ${count(all)}` : `There are ${count(all)} rows`;
  part("previous").disabled = first === 0;
  part("next").disabled = first + table.length >= all || !table.length;
};

const turn = (rows) => choose({ offset: String(Math.max(0, Number(read().offset || 0) + rows) || "") }, "table");

const drawFigure = () => {
  const { series: data, state } = shown;
  const measure = state && measureOf({ ...state, measure: read().measure });
  part("figure").hidden = !(measure && data?.series.length);
  if (part("figure").hidden) return;
  part("figure-title").textContent = `${measure.label} by ${viewOf(state).by}`;
  part("figure-step").textContent = `a bar is ${duration(data.step_seconds)} · UTC`;
  drawPlot(part("plot"), part("legend"), data, viewOf(state).by, measure);
};

const tellAge = () => {
  const { table: data } = shown;
  if (!data) return;
  const since = (at) => `${duration((Date.now() - at) / 1000)} ago`;
  const { from, until, last_sampled_at: last } = data;
  const span = from !== until ? [`${moment(from)} – ${moment(until)}`] : [];
  const newest = last === undefined ? [] : [last ? `newest report ${since(new Date(last))}` : "no report yet"];
  part("age").textContent = [...span, ...newest, `loaded ${since(shown.loadedAt)}`].join(" · ");
  part("age").classList.toggle("odd", Date.now() - shown.loadedAt > STALE_MS && !document.hidden);
};

const tellProblem = (sentence) => {
  part("problem").textContent = sentence;
  part("problem").hidden = !sentence;
};

const choose = (change, wanted) => {
  write(change);
  reload(wanted);
};

const signIn = (event) => {
  event.preventDefault();
  token.set(part("token").value.trim());
  part("token").value = "";
  reload();
};

// What is shown, whole: the same time, filters and order.
const download = async ({ target: { value: format } }) => {
  if (!format || !shown.table) return;
  const { from, until } = shown.table;
  const { window: _, ...query } = queryOf(shown.state);
  const name = ["skytally", query.view, query.by, until?.replace(/[:.]/g, "")].filter(Boolean).join("-");
  await saveAs({ ...query, ...(from ? { from, until } : {}), format, part: format === "csv" ? "table" : "all" }, `${name}.${format}`).catch(({ message }) => tellProblem(message));
};

const begin = () => {
  takeToken();
  listen(choose);
  part("measure").addEventListener("change", ({ target }) => {
    write({ measure: target.value });
    drawFigure();
  });
  part("previous").addEventListener("click", () => turn(-MOST_ROWS));
  part("next").addEventListener("click", () => turn(MOST_ROWS));
  part("downloads").addEventListener("click", download);
  part("signin").addEventListener("submit", signIn);
  addEventListener("hashchange", () => {
    takeToken();
    reload();
  });
  addEventListener("resize", drawFigure);
  const again = () => document.hidden || !part("signin").hidden || reload();
  addEventListener("visibilitychange", again);
  setInterval(again, RELOAD_MS);
  setInterval(tellAge, AGE_MS);
  reload();
};

begin();
