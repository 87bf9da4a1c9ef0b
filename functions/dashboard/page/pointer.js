// Reads a figure out under the pointer or by the arrow keys; a click opens what is behind a shape, a drag zooms.
import { say, sayName, square } from "./dom.js";
import { select } from "./plot.min.js";
import { go } from "./state.js";

const DRAG_PX = 8;
const NEAR_PX = 16;

export const listenToPointer = (figure) => {
  const plot = figure.querySelector(".plot");
  const spec = () => select(figure).datum();
  const svg = () => plot.querySelector(".picture svg");
  let at = -1;
  let drag = null;
  const position = (event) => {
    const box = svg().getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const leave = () => {
    at = -1;
    hide(plot);
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && spec().span) drag = { ...position(event), pointer: event.pointerId, isMoved: false };
  });
  plot.addEventListener("pointermove", (event) => {
    const { x, y } = position(event);
    if (drag && Math.abs(x - drag.x) > DRAG_PX) {
      drag.isMoved = true;
      plot.setPointerCapture(drag.pointer);
      return showBox(plot, { left: Math.min(x, drag.x), right: Math.max(x, drag.x) });
    }
    at = spec().locate(svg(), x, y);
    show(plot, spec(), svg(), at);
  });
  plot.addEventListener("pointerup", (event) => {
    if (drag?.isMoved) zoom(spec(), svg(), drag.x, position(event).x);
    else if (event.pointerType !== "touch") openShape(event, spec(), svg(), position(event));
    drag = null;
  });
  plot.addEventListener("pointercancel", () => {
    drag = null;
    leave();
  });
  plot.addEventListener("pointerleave", () => drag?.isMoved || leave());
  plot.addEventListener("blur", leave);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape") leave();
    if (!step || !spec().groups.length) return;
    event.preventDefault();
    at = Math.min(spec().groups.length - 1, Math.max(0, at + step));
    show(plot, spec(), svg(), at);
  });
};

const hide = (plot) => {
  for (const name of [".cursor", ".readout"]) plot.querySelector(name).hidden = true;
};

// Lays the cursor over a part of the picture.
const showBox = (plot, { left, right, top, bottom }) => {
  const cursor = plot.querySelector(".cursor");
  const px = (value) => (value === undefined ? "0" : `${value}px`);
  Object.assign(cursor.style, {
    left: px(left),
    top: px(top),
    width: right === undefined ? "100%" : px(right - left),
    height: bottom === undefined ? "100%" : px(bottom - top),
  });
  cursor.hidden = false;
};

const show = (plot, spec, svg, at) => {
  const group = spec.groups[at];
  if (!group) return hide(plot);
  const extent = spec.extent(svg, group);
  showBox(plot, extent);
  const readout = plot.querySelector(".readout");
  readout.hidden = false;
  drawReadout(readout, group, spec);
  const middle = extent.left === undefined ? plot.clientWidth / 2 : (extent.left + extent.right) / 2;
  const isRight = middle > plot.clientWidth / 2 && extent.left !== undefined;
  Object.assign(readout.style, {
    left: isRight ? "auto" : `${extent.left === undefined ? middle / 1.5 : extent.right + 8}px`,
    right: isRight ? `${plot.clientWidth - extent.left + 8}px` : "auto",
    top: extent.top === undefined ? "4px" : `${extent.bottom + 2}px`,
  });
};

const MOST_READ = 12;

const drawReadout = (readout, { title, entries, sum }, { unit }) => {
  const place = select(readout).attr("role", "status");
  place
    .selectAll("b")
    .data([title])
    .join("b")
    .call(say, (words) => words);
  const items = place
    .selectAll("div")
    .data(entries.slice(0, MOST_READ), ({ name }) => name)
    .join((enter) => {
      const item = enter.append("div");
      square(item);
      item.append("span");
      item.append("strong");
      return item;
    });
  items
    .order()
    .select("rect")
    .attr("fill", ({ colour }) => colour);
  items.select("span").call(sayName, ({ name }) => name);
  items.select("strong").call(say, ({ written }) => written);
  const rest = entries.length > MOST_READ ? [`and ${entries.length - MOST_READ} more`] : [];
  const words = entries.length ? [...rest, ...(sum ? [`sum ${sum} ${unit ?? ""}`] : [])] : ["nothing"];
  place
    .selectAll("small")
    .data(words)
    .join("small")
    .call(say, (line) => line);
};

const openShape = ({ target }, spec, svg, { x, y }) => {
  const shape = target.closest("[data-name]") ?? nearestDot(spec, svg, x, y);
  if (!shape) return;
  const { name, at, row } = shape.dataset;
  const group = spec.groups[spec.locate(svg, x, y)];
  const change = spec.open?.(name, { at, row, group });
  if (change) go(change);
};

// A line is thin: the end of a step that lies near counts for it.
const nearestDot = (spec, svg, x, y) => {
  const far = (dot) => Math.abs(Number(dot.getAttribute("cy")) - y);
  const group = spec.groups[spec.locate(svg, x, y)];
  const dots = [...svg.querySelectorAll(".dot")].filter((dot) => +new Date(dot.dataset.at) === +group?.begin);
  const [nearest] = dots.filter((dot) => far(dot) <= NEAR_PX).toSorted((a, b) => far(a) - far(b));
  return nearest;
};

// Whole steps, from the one in which the drag began to the one in which it ended.
const zoom = (spec, svg, from, until) => {
  const [first, last] = [Math.min(from, until), Math.max(from, until)].map((x) => svg.scale("x").invert(x));
  const inside = spec.groups.filter(({ begin, end }) => end > first && begin < last);
  if (!inside.length) return;
  const iso = (date) => date.toISOString().replace(/\.\d+Z$/, "Z");
  const end = Math.min(+inside.at(-1).end, +new Date(spec.span.until));
  const begin = Math.max(+inside[0].begin, +new Date(spec.span.from));
  go({ from: iso(new Date(begin)), until: iso(new Date(end)) });
};
