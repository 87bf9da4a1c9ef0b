// The sheet of a cloud's month, on the screen and on paper: whose it is, its state, its numbers and its proof.
import { node } from "./dom.js";
import { several, text } from "./format.js";

const LABELS = {
  vm_count: "VMs",
  boot_count: "Boots",
  wall_hours: "Wall hours",
  core_hours: "Core hours",
  cpu_hours: "CPU hours",
  efficiency: "Efficiency",
  hs23_hours: "HS23 hours",
  scored_core_hours: "Core hours with HS23",
  energy_kwh: "Energy",
  co2_kg: "CO2",
  cost: "Cost",
  price_per_hs23_hour: "Price per HS23 hour",
  coverage: "Coverage",
  silent_vms: "Silent VMs",
  estimated_edges: "Estimated boots",
  anomalies: "Anomalies",
  quarantined_benchmarks: "Benchmarks set aside",
};
const SUMS = ["wall_hours", "core_hours", "cpu_hours", "hs23_hours", "energy_kwh", "co2_kg", "cost"];
const NO_NUMBERS = ["cloud", "currency", "hs23_complete"];
const NOT_KNOWN = "not known";
// A statement's numbers have six decimals, and all of them stand on the sheet.
const exact = (least = 0) => new Intl.NumberFormat("en", { minimumFractionDigits: least, maximumFractionDigits: 6 });
const plain = exact();
const monthName = new Intl.DateTimeFormat("en", { timeZone: "UTC", month: "long", year: "numeric" });

export const nameOfMonth = (month) => monthName.format(new Date(`${month}-01T00:00:00Z`));

const utc = (iso) => `${iso.slice(0, 16).replace("T", " ")} UTC`;

const digitsOf = (currency) =>
  new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().minimumFractionDigits;

export const money = (value, currency) =>
  value === null || value === undefined || !currency
    ? NOT_KNOWN
    : `${exact(digitsOf(currency)).format(value)} ${currency}`;

const UNITS = { share: (value) => `${plain.format(value * 100)} %`, hours: (value) => `${plain.format(value)} h` };

const written = (value, { name, unit }, row) => {
  if (value === null || value === undefined) return NOT_KNOWN;
  if (unit.startsWith("currency")) return money(value, row.currency);
  const number = UNITS[unit]?.(value) ?? `${plain.format(value)}${unit === "count" ? "" : ` ${unit}`}`;
  return name === "hs23_hours" && row.hs23_complete === false ? `≥ ${number}` : number;
};

// The state of a month of a cloud, in a sentence.
const stateOf = (row, { until, generated_at: now }) => {
  if (row.state !== "final")
    return new Date(now) < new Date(until)
      ? `Provisional: the month lasts until ${utc(until)}, and its numbers grow. As of ${utc(now)}.`
      : `Provisional: the month is over and not closed yet, so late reports still count. As of ${utc(now)}.`;
  const signed = `signed on ${utc(row.closed_at)}, and frozen since`;
  return row.revision > 1 ? `Closed: revision ${row.revision}, ${signed}.` : `Closed: ${signed}.`;
};

const fact = (label, value) => node("div", {}, node("dt", {}, label), node("dd", {}, node("bdi", {}, value)));

const numbers = (row, definitions) => {
  const lines = definitions
    .filter(({ name }) => !NO_NUMBERS.includes(name))
    .map((definition) =>
      node(
        "tr",
        { "data-column": definition.name },
        node("th", { scope: "row" }, LABELS[definition.name] ?? definition.name.replaceAll("_", " ")),
        node("td", { class: "value" }, written(row[definition.name], definition, row)),
        node("td", { class: "meaning" }, definition.text),
      ),
    );
  const partial =
    row.hs23_complete === false
      ? [node("p", {}, "≥: some boots have no HS23 score, so HS23 hours are at least this.")]
      : [];
  return [node("table", { class: "numbers" }, node("tbody", {}, ...lines)), ...partial];
};

const signed = (value) => (value > 0 ? `+${plain.format(value)}` : plain.format(value).replace("-", "−"));

const head = (...labels) => node("tr", {}, ...labels.map((label) => node("th", { scope: "col" }, label)));

const changeLine = (name, { before = {}, ...differences }, row) => {
  const difference = differences[name];
  const earlier = name in before ? before[name] : difference === null ? null : row[name] - difference;
  const share = earlier && difference !== null ? ` (${signed(Math.round((difference / earlier) * 1e5) / 1e3)} %)` : "";
  const all = [earlier, row[name]].map((value) => (value === null ? NOT_KNOWN : plain.format(value)));
  return node(
    "tr",
    { "data-column": name },
    node("th", { scope: "row" }, LABELS[name]),
    ...all.map((value, at) => node("td", { class: "value", "data-label": at ? "Now" : "Before" }, value)),
    node(
      "td",
      { class: "value", "data-label": "Difference" },
      difference === null ? NOT_KNOWN : signed(difference) + share,
    ),
  );
};

// What the revision changes in the one before.
const restated = (row) => {
  const { changes, revision } = row;
  if (!changes) return [];
  const changed = SUMS.filter((name) => changes[name] || name in (changes.before ?? {}));
  const are = changes.vm_count === 1 ? "has" : "have";
  const was = changes.before?.currency;
  const currency =
    was === undefined ? "" : ` The currency was ${was ?? NOT_KNOWN} and is ${row.currency ?? NOT_KNOWN}.`;
  return [
    node("h3", {}, `What revision ${revision} changes`),
    node("p", {}, `${several(changes.vm_count, "vm")} of it ${are} other numbers than before.${currency}`),
    node(
      "table",
      { class: "changes" },
      node("thead", {}, head("", "Before", `Revision ${revision}`, "Difference")),
      node("tbody", {}, ...changed.map((name) => changeLine(name, changes, row))),
    ),
  ];
};

const unsettled = ({ unsettled: words }) =>
  words
    ? [node("p", { class: "odd" }, `Known by now, and not in what was signed: ${words}. The next revision has it.`)]
    : [];

export const fileOf = (cloud, month) => `${cloud.replace(/[^\p{L}\p{N}._-]+/gu, "_")}-${month}.json`;

export const commandsOf = (file) => [
  `skytally statement verify ${file} --key statement.pub`,
  `skytally statement verify ${file} --key statement.pub --unpack . &&\n` +
    "  openssl pkeyutl -verify -pubin -inkey statement.pub -rawin -in statement.json -sigfile statement.sig",
];

const proofOf = (row, { month }, proof) => {
  if (row.state !== "final")
    return [node("p", {}, "Nothing of this is signed yet: the month is not closed, and its numbers may change.")];
  if (!proof) return [node("p", {}, "The signature is being fetched.")];
  if (proof.problem) return [node("p", { class: "odd" }, `The signature could not be fetched. ${proof.problem}`)];
  const facts = [
    ...(proof.digest ? [fact("SHA-256 of the signed text", proof.digest)] : []),
    fact("Ed25519 signature", proof.signature),
    fact("Public key", proof.publicKey),
  ];
  return [
    node("dl", { class: "proof" }, ...facts),
    node(
      "p",
      {},
      `Check the file ${fileOf(row.cloud, month)}, “Signed text” of this page, by the public key that the ` +
        "operator gave you. That in the file shows only that the file is whole.",
    ),
    ...commandsOf(fileOf(row.cloud, month)).map((command) => node("pre", {}, command)),
  ];
};

// All of the sheet: row is a cloud's, data the view's answer; proof is what was signed, if it is here.
export const sheetOf = (row, data, proof) => [
  node("h2", { tabindex: "-1" }, `Statement of ${nameOfMonth(data.month)}: `, node("bdi", {}, text(row.cloud))),
  node(
    "dl",
    { class: "whose" },
    fact("Owner", row.owner ?? NOT_KNOWN),
    fact("Contact", row.contact ?? NOT_KNOWN),
    fact("From", utc(data.from)),
    fact("Until, not including it", utc(data.until)),
    fact("State", stateOf(row, data)),
  ),
  ...unsettled(row),
  ...numbers(row, data.definitions),
  ...restated(row),
  node("h3", {}, "Proof"),
  ...proofOf(row, data, proof),
];
