// What will the month's number be, and can it be defended?
import { hs23, name, number, some, time, word } from "./columns.js";
import { STATEMENT, loadFile } from "./data.js";
import { node, part } from "./dom.js";
import { saveAs } from "./download.js";
import { cumulative } from "./figures.js";
import { UNKNOWN, count, hours, several, share } from "./format.js";
import { fileOf, money, nameOfMonth, sheetOf } from "./sheet.js";
import { RESET, address } from "./state.js";

const proofs = new Map();
const drawn = { key: null };

// The only cloud of a month is its sheet; else the one that is chosen.
const sheetRow = ({ table }) => (table.length === 1 ? table[0] : null);

const bare = (base64) => base64.replace(/-----[^-]+-----|\s/g, "");

const digestOf = async (words) => {
  // Browsers keep this from pages that came over plain HTTP from another machine.
  if (!globalThis.crypto?.subtle) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(words)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

const fetchProof = async (month, { cloud, revision }) => {
  const file = await loadFile({ month, cloud, detail: "signed", revision }, STATEMENT);
  const { statement: words, signature, public_key: key } = JSON.parse(await file.text());
  return { digest: await digestOf(words), signature, publicKey: bare(key) };
};

// What was signed does not change, so it is fetched once; a fetch that failed is tried again at the next drawing.
const proofOf = (month, row, redraw) => {
  if (row.state !== "final") return null;
  const key = JSON.stringify([month, row.cloud, row.revision]);
  if (!proofs.has(key)) {
    const pending = fetchProof(month, row).catch(({ message }) => ({ problem: message }));
    proofs.set(key, { pending, proof: null });
    pending.then((proof) => {
      if (proof.problem) proofs.delete(key);
      else proofs.get(key).proof = proof;
      redraw(proof);
    });
  }
  return proofs.get(key).proof;
};

const stepTo = (month, words) =>
  month ? node("a", { href: address({ ...RESET, month }) }, words(nameOfMonth(month))) : node("span", {});

const stateOf = ({ state, table, revision }) => {
  const closed = table.filter((row) => row.state === "final").length;
  if (!table.length) return "nothing reported";
  const revised = table.length === 1 ? `, revision ${revision}` : `, some in revision ${revision}`;
  if (state === "final") return `closed and signed${revision > 1 ? revised : ""}`;
  return closed ? `provisional: ${closed} of ${several(table.length, "cloud")} closed` : "provisional";
};

const drawMonth = (data) =>
  part("month").replaceChildren(
    stepTo(data.previous_month, (words) => `‹ ${words}`),
    node("h2", {}, nameOfMonth(data.month)),
    node("span", { class: "state" }, stateOf(data)),
    stepTo(data.next_month, (words) => `${words} ›`),
  );

const drawSheet = (data, row, proof) => {
  // The sheet is drawn again once its proof is there: it keeps the focus then.
  const hadFocus = ["listing", "sheet"].some((id) => part(id).contains(document.activeElement));
  part("sheet").hidden = row === null;
  part("listing").hidden = row !== null;
  part("sheet").replaceChildren(...(row ? sheetOf(row, data, proof) : []));
  if (row && hadFocus) part("sheet").querySelector("h2").focus({ preventScroll: true });
};

const stem = (month, cloud) => (cloud ? fileOf(cloud, month).replace(/\.json$/, "") : month);

const filesOf = ({ month }, row, cloud) => {
  const of = { month, ...(cloud ? { cloud } : {}) };
  const base = `statement-${stem(month, cloud)}`;
  return [
    ["JSON", { ...of, format: "json" }, `${base}.json`],
    ["CSV", { ...of, format: "csv" }, `${base}.csv`],
    ["Boots as CSV", { ...of, detail: "boots", format: "csv" }, `${base}-boots.csv`],
    ["Jobs as CSV", { ...of, detail: "jobs" }, `${base}-jobs.csv`],
    ...(row?.state === "final"
      ? [["Signed text", { ...of, cloud: row.cloud, detail: "signed" }, fileOf(row.cloud, month)]]
      : []),
    ["APEL cloud", { ...of, format: "apel-cloud" }, `${base}-apel-cloud.txt`],
    ["APEL cloud summary", { ...of, format: "apel-cloud-summary" }, `${base}-apel-cloud-summary.txt`],
    ["APEL job summary", { ...of, format: "apel-job-summary" }, `${base}-apel-job-summary.txt`],
  ];
};

const drawPapers = (data, row, state, tell) => {
  const save = ([label, query, file]) => {
    const button = node("button", { type: "button" }, label);
    button.addEventListener("click", () => saveAs(query, file, STATEMENT).catch(({ message }) => tell(message)));
    return button;
  };
  const print = node("button", { type: "button" }, "Print or save as PDF");
  print.addEventListener("click", () => printSheet(data, row));
  part("papers").replaceChildren(
    node("h2", {}, "Files of this month"),
    node("div", { class: "files" }, ...(row ? [print] : []), ...filesOf(data, row, state.cloud).map(save)),
    ...(row ? [] : [node("p", {}, "Choose a cloud for its sheet, its signed text, and a page to print.")]),
    node("p", {}, `A provider's bill is compared by: skytally statement compare --month ${data.month} --bill bill.csv`),
  );
};

const printSheet = async (data, row) => {
  await proofs.get(JSON.stringify([data.month, row.cloud, row.revision]))?.pending;
  window.print();
};

// What did not change stays as it is, with its focus.
const draw = (data, state, tell) => {
  const row = sheetRow(data);
  part("sheet").hidden = row === null;
  part("listing").hidden = row !== null;
  const { generated_at: _, ...lasting } = data;
  const key = JSON.stringify([lasting, state.cloud]);
  const proof = row && proofOf(data.month, row, (fetched) => drawn.key === key && drawSheet(data, row, fetched));
  if (drawn.key === key) return;
  drawn.key = key;
  drawMonth(data);
  drawSheet(data, row, proof);
  drawPapers(data, row, state, tell);
};

const costs = (value, { currency }) => (value === null ? UNKNOWN : money(value, currency));

const COMPARISON = [
  name("cloud", "Cloud"),
  number("our_core_hours", "Core hours, by vms", hours),
  number("scheduler_core_hours", "Core hours, by scheduler", hours, { help: "its vms' lives times their cores" }),
  number("difference_core_hours", "Difference", hours),
  number("difference_share", "Share", share, {
    help: "below zero, the scheduler saw what was never reported",
    odd: (value) => Math.abs(value) > 0.02,
  }),
];

const DEFINITIONS = [name("name", "Number"), name("text", "Is", { wraps: true }), name("unit", "Unit")];

export const statement = {
  title: "Statements",
  filters: ["cloud"],
  query: ({ month }) => ({ month }),
  draw,
  figures: (data, state) => {
    const before = { from: `${data.previous_month}-01T00:00:00Z`, series: data.previous_series ?? [] };
    const title = `Core hours so far${state.cloud ? `, of cloud ${state.cloud}` : ""}, ${nameOfMonth(data.month)}`;
    const measure = { name: "core_hours", unit: "core hours" };
    return [cumulative({ id: "month", title, data, before: data.previous_month && before, measure })];
  },
  facts: ({ totals }) => [
    ["Core hours", hours(totals.core_hours)],
    ["CPU hours", hours(totals.cpu_hours)],
    ["Efficiency", share(totals.efficiency)],
    [
      "HS23 hours",
      hs23(totals.hs23_hours, { ...totals, hs23_complete: totals.scored_core_hours >= totals.core_hours }),
    ],
    ["Cost", costs(totals.cost, totals)],
    ["VMs", count(totals.vm_count)],
    ["Silent VMs", count(totals.silent_vms), { tone: totals.silent_vms ? "odd" : null }],
  ],
  empty: "No vm reported in this month. Choose another one, or ask for all clouds.",
  displays: {
    cloud: {
      label: "Clouds",
      sort: "core_hours-down",
      key: ({ cloud }) => JSON.stringify(cloud),
      columns: [
        name("cloud", "Cloud", { opens: ({ cloud }) => ({ cloud }) }),
        word("state", "State", {
          isWord: true,
          format: (value) => (value === "final" ? "closed" : value),
          odd: (value) => value !== "final",
        }),
        number("revision", "Revision", (value) => (value ? count(value) : UNKNOWN)),
        number("core_hours", "Core hours", hours),
        number("cpu_hours", "CPU hours", hours),
        number("hs23_hours", "HS23 hours", hs23),
        number("coverage", "Coverage", share, { odd: (value) => value < 0.995 }),
        number("cost", "Cost", costs),
        number("price_per_hs23_hour", "Price per HS23 hour", costs),
        number("energy_kwh", "Energy (kWh)", hours),
        number("co2_kg", "CO2 (kg)", hours),
        number("silent_vms", "Silent VMs", count, { odd: some }),
        time("closed_at", "Closed"),
        number("unsettled_core_hours", "Not in it yet (core h)", hours, {
          help: "known by now, and not in what was signed",
          odd: (value) => value !== null && value !== 0,
        }),
      ],
    },
  },
  after: (data) => [
    {
      id: "comparison",
      title: "Beside what the scheduler saw",
      rows: data.comparison ?? [],
      columns: COMPARISON,
      key: ({ cloud }) => JSON.stringify(cloud),
      empty: "The scheduler told of no vms of this month.",
    },
    ...(sheetRow(data)
      ? []
      : [
          {
            id: "definitions",
            title: "What the numbers mean",
            rows: data.definitions ?? [],
            columns: DEFINITIONS,
            key: (row) => row.name,
            empty: "",
          },
        ]),
  ],
};
