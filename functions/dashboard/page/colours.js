// A colour for each name.
import { select } from "./plot.min.js";

// Okabe and Ito's palette without black: told apart by colour-blind eyes, and readable on light and dark paper.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7570b3"];
// States have colours of their own: what fails stands out, and what is well does not.
const STATES = {
  finished: "#8fb0c6",
  failed: "#d1382f",
  cancelled: "#d9a441",
  closed: "#9a7fbd",
  other: "#c3ccd3",
  reporting: "#8fb0c6",
  silent: "#d1382f",
};
const slots = new Map();

const slotOf = (name) => {
  if (!slots.has(name)) slots.set(name, freeSlot(hash(name)));
  return slots.get(name);
};

// The name's own colour, or the next that is free; hatched, once all plain ones are given. A name keeps what it got.
export const colourOf = (name) => {
  const slot = slotOf(name);
  return slot < PALETTE.length ? PALETTE[slot] : `url(#hatch-${slot - PALETTE.length})`;
};

// The same for a line, which is dashed where an area is hatched.
export const lineColourOf = (name) => PALETTE[slotOf(name) % PALETTE.length];
export const isDashed = (name) => slotOf(name) >= PALETTE.length;

export const FAILED = STATES.failed;
export const stateColourOf = (state) => STATES[state] ?? colourOf(state);

const hash = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7);

const freeSlot = (start) => {
  const taken = new Set(slots.values());
  const all = [...Array(2 * PALETTE.length).keys()];
  const turned = all.map((at) => (at < PALETTE.length ? 0 : PALETTE.length) + ((start + at) % PALETTE.length));
  return turned.find((slot) => !taken.has(slot)) ?? turned[0];
};

export const defineHatches = (svg) => {
  const hatches = select(svg).append("defs").selectAll("pattern").data(PALETTE).join("pattern");
  hatches.attr("id", (_, at) => `hatch-${at}`).attr("patternUnits", "userSpaceOnUse");
  hatches.attr("width", 6).attr("height", 6).attr("patternTransform", "rotate(45)");
  hatches
    .append("rect")
    .attr("width", 6)
    .attr("height", 6)
    .attr("fill", (colour) => colour);
  hatches.append("rect").attr("class", "hatch").attr("width", 2.5).attr("height", 6);
};
