// A figure: its title, choices, picture, legend, and a file of it.
import { say, sayName, square } from "./dom.js";
import { saveBlob } from "./download.js";
import { select } from "./plot.min.js";
import { listenToPointer } from "./pointer.js";
import { address, RESET } from "./state.js";

const NARROWEST = 260;

export const drawFigures = (place, specs, choose) => {
  const figures = select(place)
    .selectAll("figure")
    .data(specs, ({ id }) => id)
    .join(skeleton);
  figures
    .order()
    .attr("aria-labelledby", ({ id }) => `title-${id}`)
    .each(function draw(spec) {
      drawFigure(this, spec, choose);
    });
};

const skeleton = (enter) => {
  const figure = enter.append("figure").attr("data-figure", ({ id }) => id);
  const caption = figure.append("figcaption");
  caption.append("b").attr("id", ({ id }) => `title-${id}`);
  caption.append("span").attr("class", "note");
  const tools = caption.append("span").attr("class", "tools");
  const save = tools.append("button").attr("type", "button").attr("class", "small").text("SVG");
  save.attr("title", "this picture as a file").on("click", (event) => exportFigure(event.target.closest("figure")));
  const plot = figure.append("div").attr("class", "plot").attr("tabindex", 0).attr("role", "group");
  plot.append("div").attr("class", "picture");
  for (const name of ["cursor", "readout"]) plot.append("div").attr("class", name).attr("hidden", "");
  figure.append("ul").attr("class", "legend").attr("aria-label", "Colours");
  return figure.each(function listen() {
    listenToPointer(this);
  });
};

const drawFigure = (place, spec, choose) => {
  const figure = select(place);
  figure.select("figcaption b").call(say, ({ title }) => title);
  figure.select(".note").call(say, ({ note, unit }) => [unit, note].filter(Boolean).join(" · "));
  drawOptions(figure.select(".tools"), spec, choose);
  const plot = place.querySelector(".plot");
  select(plot).attr("aria-label", `${spec.title}: the arrow keys read it out`);
  place.querySelector(".picture").replaceChildren(spec.draw(Math.max(NARROWEST, plot.clientWidth)));
  drawLegend(figure.select(".legend"), spec.legend);
};

const drawOptions = (tools, spec, choose) => {
  const { options = [], chosen } = spec;
  const newLabel = (enter) => {
    const label = enter.insert("label", "button").text("Plot ");
    label.append("select").on("change", ({ target }, { parameter }) => choose({ [parameter]: target.value }));
    return label;
  };
  const labels = tools
    .selectAll("label")
    .data(options.length > 1 ? [spec] : [])
    .join(newLabel);
  const list = labels.select("select");
  const entries = list
    .selectAll("option")
    .data(options, ({ name }) => name)
    .join("option")
    .order();
  entries.attr("value", ({ name }) => name).call(say, (option) => option.label);
  list.property("value", chosen ?? "");
};

const drawLegend = (place, legend) => {
  const entries = place
    .selectAll("li")
    .data(legend, ({ name, to }) => JSON.stringify([name, Boolean(to)]))
    .join((enter) => {
      const entry = enter.append("li");
      square(entry);
      entry.append(({ to }) => document.createElement(to ? "a" : "span"));
      return entry;
    });
  entries
    .order()
    .select("rect")
    .attr("fill", ({ colour }) => colour);
  entries.select("a").attr("href", ({ to }) => address({ ...RESET, ...to }));
  entries.select("a, span").call(sayName, ({ name }) => name);
};

const INHERITED = ["fill", "stroke", "font-family", "font-size", "font-weight", "stroke-opacity", "fill-opacity"];

// The picture by itself: with its title, its legend and the colours that the style gives it here.
const exportFigure = (figure) => {
  const spec = select(figure).datum();
  const shown = figure.querySelector(".picture svg");
  const copy = shown.cloneNode(true);
  const originals = shown.querySelectorAll("*");
  copy.querySelectorAll("*").forEach((node, at) => {
    const style = getComputedStyle(originals[at]);
    for (const name of INHERITED) node.setAttribute(name, style.getPropertyValue(name));
  });
  copy.querySelector("style")?.remove();
  const [width, height] = ["width", "height"].map((name) => Number(shown.getAttribute(name)));
  const rows = Math.ceil(spec.legend.length / 3);
  const view = { viewBox: `0 -28 ${width} ${height + 36 + rows * 18}`, height: height + 36 + rows * 18 };
  const root = select(copy).attr("viewBox", view.viewBox).attr("height", view.height);
  const ink = getComputedStyle(figure).color;
  const write = (x, y, text, size) =>
    root
      .append("text")
      .attr("x", x)
      .attr("y", y)
      .attr("fill", ink)
      .attr("text-anchor", "start")
      .attr("font-family", "sans-serif")
      .attr("font-size", size)
      .text(text);
  write(8, -10, `${spec.title} (${[spec.unit, spec.note].filter(Boolean).join(", ")})`, 14);
  spec.legend.forEach(({ name, colour }, at) => {
    const [x, y] = [8 + (at % 3) * (width / 3), height + 14 + Math.floor(at / 3) * 18];
    root
      .append("rect")
      .attr("x", x)
      .attr("y", y - 9)
      .attr("width", 10)
      .attr("height", 10)
      .attr("fill", colour);
    write(x + 16, y, name, 12);
  });
  const hatches = document.querySelector("#hatches defs");
  if (hatches) copy.prepend(hatches.cloneNode(true));
  saveBlob(
    new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" }),
    `skytally-${spec.id}.svg`,
  );
};
