// Draws what was loaded: its summary, tables, pictures and age.
import { part, say, visible } from "./dom.js";
import { drawDoubts } from "./doubts.js";
import { drawFigures } from "./figure.js";
import { UNKNOWN, count, duration, moment, several } from "./format.js";
import { select } from "./plot.min.js";
import { drawSections } from "./sections.js";
import { FILTERS, read } from "./state.js";
import { drawTable, hintAt } from "./table.js";
import { displayNameOf, shownDisplayOf, sortOf, viewNameOf, viewOf } from "./views.js";

const STALE_MS = 180_000;

export const openAlarmsOf = ({ table }) => table?.open_alarms ?? table?.totals?.open_alarms ?? 0;

export const sinceLoaded = ({ loadedAt }) => `${duration((Date.now() - loadedAt) / 1000)} ago`;

// Actions: sortBy, openRow and chooseMeasure, which react to a person; tell, which says what went wrong.
export const draw = (shown, actions) => {
  if (!shown.table) return;
  drawListing(shown, actions);
  drawPictures(shown, actions);
  tellAge(shown);
};

export const drawListing = (shown, { sortBy, openRow, tell }) => {
  const { table: data, series: plotted, state, extras } = shown;
  const focused = document.activeElement;
  const [view, display] = [viewOf(state), shownDisplayOf(state)];
  const rows = display.rows ? display.rows(extras) : data.table;
  drawFacts(data.row_count || viewNameOf(state) === "overview" ? view.facts(data) : []);
  drawDoubts(part("doubts"), data);
  part("listing").hidden = false;
  // An order that is chosen brings a table alone: what is plotted in its cells is here.
  const whole = { ...data, series: plotted?.series ?? [] };
  const options = { title: "listing-title", sort: sortOf(state), sortBy, open: read().open, openRow, data: whole };
  drawTable(part("rows"), display, rows, emptyOf(state), options);
  drawSections(part("before"), view.before?.(data, state) ?? [], data);
  drawSections(part("after"), view.after?.(data, state) ?? [], data);
  for (const own of document.querySelectorAll("[data-view]")) own.hidden = own.dataset.view !== viewNameOf(state);
  view.draw?.(data, state, tell);
  drawPager(data, state, display);
  hintAt(part("rows"));
  part("downloads").hidden = !data.row_count || display.rows !== undefined || view.draw !== undefined;
  if (focused !== document.body && !document.contains(focused)) part("listing-title").focus({ preventScroll: true });
  part("spoken").textContent = `${view.title}: ${several(data.row_count, "row")}`;
  const alarms = openAlarmsOf(shown) ? `(${openAlarmsOf(shown)}) ` : "";
  document.title =
    alarms + [view.title, visible(state.cloud), visible(state.vm), "skytally"].filter(Boolean).join(" · ");
};

const emptyOf = (state) => {
  const view = viewOf(state);
  const chosen = view.filters.filter((name) => FILTERS.includes(name) && state[name]);
  if (!chosen.length) return view.empty;
  const names = chosen.map((name) => `${name} ${visible(state[name])}`).join(", ");
  const [where, wider] = view.windowed ? ["in this window", "a longer window or fewer"] : ["here", "fewer"];
  return `Nothing ${where} of ${names}. Names are whole and exact; choose ${wider} filters.`;
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

export const drawPictures = (shown, { chooseMeasure }) => {
  const { series: data, table, state: loaded, extras } = shown;
  const state = { ...loaded, measure: read().measure };
  const display = shownDisplayOf(state);
  const more = { display, displayName: displayNameOf(state), rows: table.table };
  const specs = data?.series?.length || display.rows ? (viewOf(state).figures?.(data, state, extras, more) ?? []) : [];
  part("figures").hidden = !specs.length;
  drawFigures(part("figures"), specs, chooseMeasure);
};

export const tellAge = (shown) => {
  const { table: data } = shown;
  if (!data) return;
  const since = (at) => `${duration((Date.now() - at) / 1000)} ago`;
  const { from, until, last_sampled_at: last } = data;
  const span = from && from !== until ? [`${moment(from)} – ${moment(until)}`] : [];
  const newest = last === undefined ? [] : [last ? `newest report ${since(new Date(last))}` : "no report yet"];
  const paused = shown.isPaused ? ["paused"] : [];
  part("age").textContent = [...span, ...newest, `loaded ${sinceLoaded(shown)}`, ...paused].join(" · ");
  part("age").classList.toggle("odd", Date.now() - shown.loadedAt > STALE_MS && !document.hidden);
};
