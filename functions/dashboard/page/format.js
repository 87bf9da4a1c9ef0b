// Numbers and times as people read them. Null is “not known” and never a zero.
export const UNKNOWN = "–";

const known = (format) => (value) => (value === null || value === undefined ? UNKNOWN : format(value));
const rounded = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const [whole, tenths, hundredths, fine] = [0, 1, 2, 4].map(rounded);

// The one order of names: vm-2 comes before vm-10.
export const byName = new Intl.Collator("en", { numeric: true }).compare;

export const text = known(String);

export const count = known((value) => whole.format(value));

export const hours = known((value) => {
  if (value === 0 || value >= 1000) return whole.format(value);
  return (value >= 10 ? tenths : value >= 0.1 ? hundredths : fine).format(value);
});

export const gigabytes = known((value) => {
  if (value === 0) return "0";
  return value < 5e6 ? "< 0.01" : (value >= 1e10 ? tenths : hundredths).format(value / 1e9);
});

export const seconds = known((value) => (value < 0 ? `−${seconds(-value)}` : (value >= 10 ? whole : tenths).format(value)));

// Rounded down: what is not whole never reads 100 %.
export const share = known((value) => `${tenths.format(Math.floor(value * 1000 + 1e-9) / 10)} %`);

export const moment = (iso) => iso.replace("T", " ").replace(/(:\d\d)(:\d\d(\.\d+)?)?Z$/, "$1 UTC");

// Under a head that says UTC.
export const when = known((iso) => moment(iso).replace(" UTC", ""));

export const either = (yes, no) => known((value) => (value ? yes : no));

export const duration = (time) => {
  if (time < 90) return `${Math.max(0, Math.round(time))} s`;
  if (time < 3600) return `${Math.round(time / 60)} min`;
  if (time < 129600) return `${Math.round(time / 3600)} h`;
  return `${Math.round(time / 86400)} days`;
};

export const several = (number, one, more = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : more}`;
