// The views, and which rows and order of them the address names. A view is one more module with these:
//   title; filters: what it can be limited to; windowed: whether it is of a time; facts: its summary;
//   displays: what its rows may be, each with a label, its columns, its first order, what makes a row the same row,
//     and, where it has them, detail: what a row opens to, and rows: rows that come with the extras;
//   figures: its pictures; extras: further queries by name; before, after: further tables;
//   query: what it asks for besides; empty: what to do where there is nothing;
//   draw: fills its own parts of the page, which no other view shows; it then has files of its own, too.
import { health } from "./view_health.js";
import { jobs } from "./view_jobs.js";
import { overview } from "./view_overview.js";
import { secrets } from "./view_secrets.js";
import { usage } from "./view_usage.js";

// A view that few open: its module is fetched when it is chosen.
const statement = {
  title: "Statements",
  filters: ["cloud"],
  fetch: async () => (await import("./view_statement.js")).statement,
};

export const views = { overview, usage, jobs, statement, secrets, health };

export const fetchView = async (state) => {
  const name = viewNameOf(state);
  views[name] = await views[name].fetch();
};

export const viewNameOf = ({ view }) => (Object.hasOwn(views, view) ? view : "overview");

export const viewOf = (state) => views[viewNameOf(state)];

// The rows' name among the view's, usually its first.
export const displayNameOf = (state) => {
  const { displays } = viewOf(state);
  const isThere = Object.hasOwn(displays, state.by) && (!displays[state.by].needs || state[displays[state.by].needs]);
  return isThere ? state.by : Object.keys(displays)[0];
};

export const displayOf = (state) => viewOf(state).displays[displayNameOf(state)];

// The same without the columns in which a filter leaves one name.
const FILTERED = ["cloud", "vm", "queue", "release", "error", "system"];

export const shownDisplayOf = (state) => {
  const display = displayOf(state);
  const isShown = ({ name }, at) => at === 0 || !FILTERED.includes(name) || !state[name];
  return { ...display, columns: display.columns.filter(isShown) };
};

// The column and the way that rows are ordered by.
export const sortOf = (state) => {
  const { columns, sort = "" } = shownDisplayOf(state);
  const [column, way] = state.sort.split("-");
  const isThere = columns.some(({ name, isFixed }) => name === column && !isFixed) && ["up", "down"].includes(way);
  return isThere ? `${column}-${way}` : sort;
};

// What the server is asked for.
export const queryOf = (state) => {
  const view = viewOf(state);
  const display = displayOf(state);
  const time = state.from ? { from: state.from, until: state.until } : { window: state.window, until: state.until };
  const filters = Object.fromEntries(view.filters.map((name) => [name, state[name]]));
  const by = Object.keys(view.displays).length > 1 ? (display.by ?? displayNameOf(state)) : "";
  const span = view.windowed ? time : viewNameOf(state) === "overview" ? { until: state.until } : {};
  const query = { view: viewNameOf(state), ...span, ...filters, by, sort: sortOf(state), ...view.query?.(state) };
  return Object.fromEntries(Object.entries(query).filter(([, value]) => value));
};

export const extrasOf = (state) => {
  const { sort: _, ...query } = queryOf(state);
  const extras = { ...viewOf(state).extras?.(state), ...displayOf(state).extras?.(state) };
  return Object.entries(extras).map(([name, change]) => [name, { ...query, ...change }]);
};
