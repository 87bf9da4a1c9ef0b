// Text in nodes that stay: with D3's joins, focus, selection and scrolling outlive a reload, and nothing flickers.
export const say = (nodes, of) =>
  nodes.each(function write(datum) {
    const text = of(datum);
    if (this.textContent !== text) this.textContent = text;
  });

// Names come from strangers: only ever text, isolated from their neighbours' direction, cut by the style, whole in their title.
export const sayName = (nodes, of) => {
  const names = nodes.selectAll("bdi").data((datum) => [of(datum)]).join("bdi");
  names.attr("class", "name").attr("title", (name) => name).call(say, (name) => name);
};
