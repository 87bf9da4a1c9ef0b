// Writes the library as one module, and the licences of all packages that are in it: node build.mjs MODULE LICENCES
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { build } from "esbuild";

const [module, licences] = process.argv.slice(2);
const { metafile } = await build({
  entryPoints: ["entry.js"],
  outfile: module,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  banner: { js: "// Observable Plot and D3, made by `make plot`; licences: plot.LICENSE" },
  metafile: true,
});
const [{ inputs }] = Object.values(metafile.outputs);
const paths = Object.keys(inputs).filter((path) => inputs[path].bytesInOutput);
const folders = paths.map((path) => path.match(/^node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]);
const texts = [...new Set(folders)]
  .filter(Boolean)
  .toSorted()
  .map((folder) => {
    const { name, version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = ["LICENSE", "LICENSE.txt", "LICENSE.md"].map((one) => `${folder}/${one}`).find(existsSync);
    return `${name} ${version}\n\n${readFileSync(file, "utf8").trim()}\n`;
  });
writeFileSync(licences, texts.join("\n\n"));
