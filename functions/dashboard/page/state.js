// What is shown, kept in the address's fragment so that a link reopens it; and the token, kept in this tab and nowhere else.
const DEFAULTS = { view: "usage", window: "day", cloud: "", measure: "", sort: "", until: "" };

export const read = () => ({ ...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) });

export const write = (change) => {
  const state = { ...read(), ...change };
  const told = Object.entries(state).filter(([name, value]) => value && value !== DEFAULTS[name]);
  const fragment = new URLSearchParams(told).toString();
  history.replaceState(null, "", fragment ? `#${fragment}` : location.pathname + location.search);
  return state;
};

export const token = {
  get: () => sessionStorage.getItem("token"),
  set: (value) => sessionStorage.setItem("token", value),
  forget: () => sessionStorage.removeItem("token"),
};
