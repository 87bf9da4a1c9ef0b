// The page: reads from the address what to show, loads it, draws it, and does so again every minute.
import { drawChoice, learn, listen } from "./choice.js";
import { defineHatches } from "./colours.js";
import { Refused, load } from "./data.js";
import { part, say, visible } from "./dom.js";
import { drawDoubts } from "./doubts.js";
import { saveAs } from "./download.js";
import { drawFigures } from "./figure.js";
import { UNKNOWN, count, duration, moment, several } from "./format.js";
import { select } from "./plot.min.js";
import { FILTERS, onToken, read, takeToken, token, write } from "./state.js";
import { drawTable, hintAt } from "./table.js";
import { drawSections } from "./sections.js";
import { displayNameOf, extrasOf, queryOf, shownDisplayOf, sortOf, viewNameOf, viewOf } from "./views.js";
import { isOwn, ownZone, setOwn } from "./zone.js";

const RELOAD_MS = 60_000;
const AGE_MS = 5_000;
const STALE_MS = 3 * RELOAD_MS;
const SLOW_MS = 2_000;
const MOST_ROWS = 100;
const shown = { table: null, series: null, extras: {}, state: null, loadedAt: null, isPaused: false };
let loading = new AbortController();
let slowTimer = 0;
// What is not here yet of what the address says; an order that is chosen meanwhile must not leave the plot behind.
let missing = "none";

const reload = async (change = "all") => {
  loading.abort();
  const wanted = (missing = missing === "all" ? "all" : change);
  const { signal } = (loading = new AbortController());
  const state = read();
  // The requests leave before anything is drawn: the server works meanwhile.
  const main = load({ ...queryOf(state), part: wanted, limit: MOST_ROWS, offset: state.offset || 0 }, signal);
  const extras =
    wanted === "all" ? extrasOf(state).map(([name, query]) => load(query, signal).then((data) => [name, data])) : [];
  drawChoice(state, openAlarms());
  wait(wanted);
  const [data, ...more] = await Promise.allSettled([main, ...extras]);
  if (signal.aborted) return;
  const problem = [data, ...more].find(({ status }) => status === "rejected")?.reason;
  wait("none");
  if (data.status === "fulfilled") {
    missing = "none";
    const loaded = Object.fromEntries(more.filter(({ value }) => value).map(({ value }) => value));
    keep(wanted, data.value, loaded, state);
  }
  const isRefused = problem instanceof Refused;
  part("signin").hidden = !isRefused;
  part("shown").classList.toggle("old", data.status === "rejected" && shown.table !== null);
  part("signout").hidden = !token.get();
  if (!problem || problem.message) tellProblem(problem?.message ?? "");
};

const openAlarms = () => shown.table?.open_alarms ?? shown.table?.totals?.open_alarms ?? 0;

const wait = (wanted) => {
  const isWaiting = wanted !== "none";
  part("shown").setAttribute("aria-busy", String(isWaiting));
  part("shown").classList.toggle("waiting", wanted === "all");
  part("listing").classList.toggle("waiting", isWaiting);
  clearTimeout(slowTimer);
  part("slow").hidden = true;
  if (isWaiting) slowTimer = setTimeout(tellSlow, SLOW_MS);
};

const tellSlow = () => {
  const { table } = shown;
  const old = table
    ? `The numbers below are old: ${spanOf(table)}loaded ${sinceLoaded()}.`
    : "Nothing has arrived yet.";
  part("slow").textContent = `The server is slow to answer. ${old}`;
  part("slow").hidden = false;
  part("shown").classList.toggle("old", table !== null);
};

const spanOf = ({ from, until }) => (from && from !== until ? `of ${moment(from)} to ${moment(until)}, ` : "");

const sinceLoaded = () => `${duration((Date.now() - shown.loadedAt) / 1000)} ago`;

const keep = (wanted, data, extras, state) => {
  Object.assign(shown, { table: data, state, loadedAt: Date.now() }, wanted === "all" ? { series: data, extras } : {});
  learn(data);
  drawChoice(read(), openAlarms());
  draw();
};

const draw = () => {
  if (!shown.table) return;
  drawListing();
  drawPictures();
  tellAge();
};

const drawListing = () => {
  const { table: data, state, extras } = shown;
  const focused = document.activeElement;
  const [view, display] = [viewOf(state), shownDisplayOf(state)];
  const rows = display.rows ? display.rows(extras) : data.table;
  drawFacts(data.row_count || viewNameOf(state) === "overview" ? view.facts(data) : []);
  drawDoubts(part("doubts"), data);
  part("listing").hidden = false;
  const options = { title: "listing-title", sort: sortOf(state), sortBy, open: read().open, openRow, data };
  drawTable(part("rows"), display, rows, emptyOf(state), options);
  drawSections(part("before"), view.before?.(data, state) ?? [], data);
  drawSections(part("after"), view.after?.(data, state) ?? [], data);
  for (const own of document.querySelectorAll("[data-view]")) own.hidden = own.dataset.view !== viewNameOf(state);
  view.draw?.(data, state, tellProblem);
  drawPager(data, state, display);
  hintAt(part("rows"));
  part("downloads").hidden = !data.row_count || display.rows !== undefined || view.draw !== undefined;
  if (focused !== document.body && !document.contains(focused)) part("listing-title").focus({ preventScroll: true });
  part("spoken").textContent = `${view.title}: ${several(data.row_count, "row")}`;
  const alarms = openAlarms() ? `(${openAlarms()}) ` : "";
  document.title =
    alarms + [view.title, visible(state.cloud), visible(state.vm), "skytally"].filter(Boolean).join(" · ");
};

const sortBy = (sort) => choose({ sort, offset: "" }, "table");

const openRow = (key) => {
  write({ open: key });
  drawListing();
};

const emptyOf = (state) => {
  const view = viewOf(state);
  const chosen = view.filters.filter((name) => FILTERS.includes(name) && state[name]);
  if (!chosen.length) return view.empty;
  const names = chosen.map((name) => `${name} ${visible(state[name])}`).join(", ");
  return `Nothing in this window of ${names}. Names are whole and exact; choose a longer window or fewer filters.`;
};

const drawFacts = (facts) => {
  const entries = select(part("facts"))
    .selectAll("div")
    .data(facts, ([label]) => label)
    .join((enter) => {
      const entry = enter.append("div");
      entry.append("dt").text(([label]) => label);
      entry.append("dd");
      return entry;
    });
  entries
    .order()
    .select("dd")
    .call(say, ([, value, { word } = {}]) => (word ? `${value} ${word}` : value))
    .attr("class", ([, , { tone } = {}]) => tone ?? null)
    .attr("title", ([, value]) => (value === UNKNOWN ? "not known" : null));
};

const drawPager = ({ row_count: all, table }, state, { rows }) => {
  const first = Number(state.offset || 0);
  part("pager").hidden = all <= table.length || rows !== undefined;
  part("pager-span").textContent = table.length
    ? `Rows ${count(first + 1)} to ${count(first + table.length)} of ${count(all)}`
    : `There are ${count(all)} rows`;
  part("previous").disabled = first === 0;
  part("next").disabled = first + table.length >= all || !table.length;
};

const turn = (rows) => choose({ offset: String(Math.max(0, Number(read().offset || 0) + rows) || "") }, "table");

const drawPictures = () => {
  const { series: data, table, state: loaded, extras } = shown;
  const state = { ...loaded, measure: read().measure };
  const display = shownDisplayOf(state);
  const more = { display, displayName: displayNameOf(state), rows: table.table };
  const specs = data?.series?.length || display.rows ? (viewOf(state).figures?.(data, state, extras, more) ?? []) : [];
  part("figures").hidden = !specs.length;
  drawFigures(part("figures"), specs, ({ measure }) => {
    const isExtra = [measure, read().measure].includes("cumulative");
    write({ measure });
    if (isExtra) reload();
    else drawPictures();
  });
};

const tellAge = () => {
  const { table: data } = shown;
  if (!data) return;
  const since = (at) => `${duration((Date.now() - at) / 1000)} ago`;
  const { from, until, last_sampled_at: last } = data;
  const span = from && from !== until ? [`${moment(from)} – ${moment(until)}`] : [];
  const newest = last === undefined ? [] : [last ? `newest report ${since(new Date(last))}` : "no report yet"];
  const paused = shown.isPaused ? ["paused"] : [];
  part("age").textContent = [...span, ...newest, `loaded ${sinceLoaded()}`, ...paused].join(" · ");
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
  const span = viewOf(shown.state).windowed ? { from, until } : {};
  const whole = { ...query, ...span, format, part: format === "csv" ? "table" : "all" };
  await saveAs(whole, `${name}.${format}`).catch(({ message }) => tellProblem(message));
};

const listenToTools = () => {
  part("zone").hidden = ownZone === null;
  if (ownZone) part("zone").append(new Option("UTC", "utc"), new Option(ownZone, "own", isOwn(), isOwn()));
  part("zone").addEventListener("change", ({ target }) => {
    setOwn(target.value === "own");
    drawChoice(read(), openAlarms());
    draw();
  });
  part("pause").addEventListener("click", ({ target }) => {
    shown.isPaused = !shown.isPaused;
    target.setAttribute("aria-pressed", String(shown.isPaused));
    if (!shown.isPaused) reload();
    tellAge();
  });
  part("signout").addEventListener("click", () => {
    token.forget();
    location.reload();
  });
};

const begin = () => {
  takeToken();
  defineHatches(part("hatches"));
  listen(choose);
  listenToTools();
  part("previous").addEventListener("click", () => turn(-MOST_ROWS));
  part("next").addEventListener("click", () => turn(MOST_ROWS));
  part("downloads").addEventListener("click", download);
  part("signin").addEventListener("submit", signIn);
  addEventListener("hashchange", () => {
    takeToken();
    reload();
  });
  addEventListener("resize", () => {
    if (!shown.table) return;
    drawPictures();
    hintAt(part("rows"));
  });
  const again = () => document.hidden || shown.isPaused || !part("signin").hidden || reload();
  addEventListener("visibilitychange", again);
  setInterval(again, RELOAD_MS);
  setInterval(tellAge, AGE_MS);
  onToken(() => reload());
  reload();
};

begin();
