// The page: reads from the address what to show, loads it, draws it, and does so again every minute.
import { drawChoice, listen } from "./choice.js";
import { defineHatches } from "./colours.js";
import { Refused, load } from "./data.js";
import { part } from "./dom.js";
import { saveAs } from "./download.js";
import { draw, drawListing, drawPictures, openAlarmsOf, sinceLoaded, tellAge } from "./drawing.js";
import { learn } from "./filters.js";
import { moment } from "./format.js";
import { onToken, read, takeToken, token, write } from "./state.js";
import { hintAt } from "./table.js";
import { extrasOf, fetchView, queryOf, viewOf } from "./views.js";
import { isOwn, ownZone, setOwn } from "./zone.js";

const RELOAD_MS = 60_000;
const AGE_MS = 5_000;
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
  if (viewOf(state).fetch) {
    const problem = await fetchView(state).catch(
      () => "The server does not answer: this page asks again every minute.",
    );
    if (signal.aborted) return;
    if (problem) return tellProblem(problem);
  }
  // The requests leave before anything is drawn: the server works meanwhile.
  const main = load({ ...queryOf(state), part: wanted, limit: MOST_ROWS, offset: state.offset || 0 }, signal);
  const extras =
    wanted === "all" ? extrasOf(state).map(([name, query]) => load(query, signal).then((data) => [name, data])) : [];
  drawChoice(state, openAlarmsOf(shown));
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
    ? `The numbers below are old: ${spanOf(table)}loaded ${sinceLoaded(shown)}.`
    : "Nothing has arrived yet.";
  part("slow").textContent = `The server is slow to answer. ${old}`;
  part("slow").hidden = false;
  part("shown").classList.toggle("old", table !== null);
};

const spanOf = ({ from, until }) => (from && from !== until ? `of ${moment(from)} to ${moment(until)}, ` : "");

const keep = (wanted, data, extras, state) => {
  Object.assign(shown, { table: data, state, loadedAt: Date.now() }, wanted === "all" ? { series: data, extras } : {});
  learn(data);
  drawChoice(read(), openAlarmsOf(shown));
  draw(shown, actions);
};

const actions = {
  sortBy: (sort) => choose({ sort, offset: "" }, "table"),
  openRow: (key) => {
    write({ open: key });
    drawListing(shown, actions);
  },
  tell: (sentence) => tellProblem(sentence),
  // The sum so far needs the month before; all other measures are here.
  chooseMeasure: ({ measure }) => {
    const needsMore = [measure, read().measure].includes("cumulative");
    write({ measure });
    if (needsMore) reload();
    else drawPictures(shown, actions);
  },
};

const turn = (rows) => choose({ offset: String(Math.max(0, Number(read().offset || 0) + rows) || "") }, "table");

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
    drawChoice(read(), openAlarmsOf(shown));
    draw(shown, actions);
  });
  part("pause").addEventListener("click", ({ target }) => {
    shown.isPaused = !shown.isPaused;
    target.setAttribute("aria-pressed", String(shown.isPaused));
    if (!shown.isPaused) reload();
    tellAge(shown);
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
    drawPictures(shown, actions);
    hintAt(part("rows"));
  });
  const again = () => document.hidden || shown.isPaused || !part("signin").hidden || reload();
  addEventListener("visibilitychange", again);
  setInterval(again, RELOAD_MS);
  setInterval(() => tellAge(shown), AGE_MS);
  onToken(() => (token.get() ? reload() : location.reload()));
  reload();
};

begin();
