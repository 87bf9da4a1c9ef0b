// What the page uses of the library; esbuild leaves the rest out.
export {
  areaY,
  axisX,
  axisY,
  barX,
  dot,
  gridY,
  lineY,
  plot,
  rectY,
  ruleY,
  stackX,
  stackY,
  text,
} from "@observablehq/plot";
export { select } from "d3-selection";
