// Small tables before and after a view's own.
import { say } from "./dom.js";
import { select } from "./plot.min.js";
import { RESET, address } from "./state.js";
import { drawTable, hintAt } from "./table.js";

export const drawSections = (place, sections, data) => {
  const entries = select(place)
    .selectAll("section")
    .data(sections, ({ id }) => id)
    .join((enter) => {
      const section = enter
        .append("section")
        .attr("class", "listing")
        .attr("id", ({ id }) => id);
      section.attr("aria-labelledby", ({ id }) => `${id}-title`);
      section.append("h2").attr("id", ({ id }) => `${id}-title`);
      section.append("div").attr("class", "rows");
      return section;
    });
  entries.select("h2").call(say, ({ title, rows }) => (rows.length ? `${title} (${rows.length})` : title));
  entries.classed("calm", ({ rows }) => !rows.length);
  entries.each(function draw(section) {
    const rows = this.querySelector(".rows");
    const display = { label: section.id, key: section.key, columns: section.columns };
    drawTable(rows, display, section.rows, section.empty, { title: `${section.id}-title`, data });
    hintAt(rows);
  });
  const more = entries
    .selectAll("p.more")
    .data(({ more: link }) => (link ? [link] : []))
    .join("p")
    .attr("class", "more");
  more
    .selectAll("a")
    .data((link) => [link])
    .join("a")
    .attr("href", ([, to]) => address({ ...RESET, ...to }))
    .text(([words]) => words);
};
