// What is shown, kept in the address's fragment so that a link reopens it; and the token, kept in this browser.
export const FILTERS = [
  "cloud",
  "site",
  "group",
  "vm",
  "flavor",
  "queue",
  "status",
  "error",
  "release",
  "task",
  "system",
];

const DEFAULTS = {
  view: "overview",
  by: "",
  window: "day",
  from: "",
  until: "",
  month: "",
  measure: "",
  sort: "",
  offset: "",
  open: "",
  ...Object.fromEntries(FILTERS.map((name) => [name, ""])),
};

// What a change of rows makes void.
export const RESET = { sort: "", offset: "", open: "" };

const fragment = () => new URLSearchParams(location.hash.slice(1));

export const read = () => {
  const params = fragment();
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => [name, params.get(name) || usual]));
};

// The fragment of some parameters alone.
export const addressOf = (params) => {
  const kept = Object.entries(params).filter(([name, value]) => name in DEFAULTS && value && value !== DEFAULTS[name]);
  return `#${new URLSearchParams(kept)}`;
};

// The fragment of the present state with a change.
export const address = (change) => addressOf({ ...read(), ...change });

// A link from row to row: to another view it takes only the time along, to an alarm's evidence nothing.
export const rowAddress = ({ isFresh, ...to }) => {
  if (isFresh) return addressOf(to);
  const { window, from, until } = read();
  return to.view ? addressOf({ window, from, until, ...to }) : address({ ...RESET, ...to });
};

// Takes a step that the back button takes back.
export const go = (change) => {
  location.hash = address({ ...RESET, ...change });
};

export const write = (change) => {
  const fragmentOfChange = address(change);
  history.replaceState(null, "", fragmentOfChange === "#" ? location.pathname + location.search : fragmentOfChange);
};

// A header takes nothing else, and a token of ours has nothing else.
const PLAIN = /^[!-~]+$/;

// All tabs share the token. Two servers behind one host name do not.
const TOKEN_KEY = `skytally-token ${new URL(".", import.meta.url).pathname}`;

export const token = {
  get: () => localStorage.getItem(TOKEN_KEY),
  set: (value) => PLAIN.test(value) && localStorage.setItem(TOKEN_KEY, value),
  forget: () => localStorage.removeItem(TOKEN_KEY),
};

// Calls when another tab signs in or out.
export const onToken = (react) =>
  addEventListener("storage", ({ key }) => (key === TOKEN_KEY || key === null) && react());

// A token that came in the fragment leaves the address before anything else happens: only our names are written back.
export const takeToken = () => {
  const value = fragment().get("token");
  if (value === null) return;
  token.set(value);
  write({});
};
