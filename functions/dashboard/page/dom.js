// Text in nodes that stay: with D3's joins, focus, selection and scrolling outlive a reload, and nothing flickers.
export const say = (nodes, of) =>
  nodes.each(function write(datum) {
    const text = of(datum);
    if (this.textContent !== text) this.textContent = text;
  });

// Names come from strangers: only ever text, isolated from their neighbours' direction, cut by the style, whole in
// their title. What would end the isolation early is written out.
export const sayName = (nodes, of) => {
  const names = nodes
    .selectAll("bdi")
    .data((datum) => [of(datum).replaceAll("\u2069", "\\u2069")])
    .join("bdi");
  names
    .attr("class", "name")
    .attr("title", (name) => name)
    .call(say, (name) => name);
};

// A name inside a sentence, where nothing isolates it: what hides or turns the direction of text is written out.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const escaped = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;

export const visible = (name) => name.replace(HIDDEN, escaped);

// A colour's square, before its name.
export const square = (entry) => {
  const svg = entry.append("svg").attr("viewBox", "0 0 10 10").attr("aria-hidden", "true");
  svg.append("rect").attr("width", 10).attr("height", 10).attr("rx", 2);
};

export const part = (id) => document.getElementById(id);

// A new node with attributes, and children that are nodes or texts.
export const node = (tag, attributes, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};
