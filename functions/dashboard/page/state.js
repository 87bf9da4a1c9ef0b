// What is shown, kept in the address's fragment so that a link reopens it; and the token, kept in this tab and nowhere else.
const DEFAULTS = {
  view: "usage", by: "", window: "day", from: "", until: "", cloud: "", site: "", group: "", vm: "", queue: "", release: "", error: "",
  measure: "", sort: "", offset: "",
};

// What a change of rows makes void.
export const ANEW = { sort: "", offset: "" };

const fragment = () => new URLSearchParams(location.hash.slice(1));

export const read = () => {
  const told = fragment();
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, usual]) => [name, told.get(name) || usual]));
};

// The fragment of the present state with a change.
export const address = (change) => {
  const told = Object.entries({ ...read(), ...change }).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(told)}`;
};

export const write = (change) => {
  const to = address(change);
  history.replaceState(null, "", to === "#" ? location.pathname + location.search : to);
};

// A header takes nothing else, and a token of ours has nothing else.
const PLAIN = /^[!-~]+$/;

export const token = {
  get: () => sessionStorage.getItem("token"),
  set: (value) => PLAIN.test(value) && sessionStorage.setItem("token", value),
  forget: () => sessionStorage.removeItem("token"),
};

// A token that came in the fragment leaves the address before anything else happens: only known names are written back.
export const takeToken = () => {
  const told = fragment().get("token");
  if (told === null) return;
  token.set(told);
  write({});
};
