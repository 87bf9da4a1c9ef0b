// A colour for each name.

// Okabe and Ito's palette without black: told apart by colour-blind eyes, and readable on light and dark paper.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7570b3"];
const given = new Map();

// The name's own colour, or the next that is free; hatched, once all plain ones are given. A name keeps what it got.
export const colourOf = (name) => {
  if (!given.has(name)) given.set(name, freeSlot(hash(name)));
  const slot = given.get(name);
  return slot < PALETTE.length ? PALETTE[slot] : `url(#hatch-${slot - PALETTE.length})`;
};

const hash = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) >>> 0, 7);

const freeSlot = (start) => {
  const taken = new Set(given.values());
  const slots = d3.range(2 * PALETTE.length).map((at) => (at < PALETTE.length ? 0 : PALETTE.length) + ((start + at) % PALETTE.length));
  return slots.find((slot) => !taken.has(slot)) ?? slots[0];
};

export const defineHatches = (svg) => {
  const hatches = svg.append("defs").selectAll("pattern").data(PALETTE).join("pattern");
  hatches.attr("id", (_, at) => `hatch-${at}`).attr("patternUnits", "userSpaceOnUse").attr("width", 6).attr("height", 6);
  hatches.attr("patternTransform", "rotate(45)").append("rect").attr("width", 6).attr("height", 6).attr("fill", (colour) => colour);
  hatches.append("rect").attr("class", "hatch").attr("width", 2.5).attr("height", 6);
};
