// Numbers and times as people read them. Null is “not known” and never a zero.
import { written, zoneName } from "./zone.js";

export const UNKNOWN = "–";

const unlessNull = (format) => (value, row) => (value === null || value === undefined ? UNKNOWN : format(value, row));
const rounded = (digits) =>
  new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const [whole, tenths, hundredths, fine] = [0, 1, 2, 4].map(rounded);

// The order of names everywhere: vm-2 comes before vm-10.
export const byName = new Intl.Collator("en", { numeric: true }).compare;

export const text = unlessNull(String);

export const count = unlessNull((value) => whole.format(value));

export const hours = unlessNull((value) => {
  if (value < 0) return `−${hours(-value)}`;
  if (value === 0 || value >= 1000) return whole.format(value);
  return (value >= 10 ? tenths : value >= 0.1 ? hundredths : fine).format(value);
});

export const gigabytes = unlessNull((value) => {
  if (value === 0) return "0";
  return value < 5e6 ? "< 0.01" : (value >= 1e10 ? tenths : hundredths).format(value / 1e9);
});

// Round in a computer's way: 512 MiB, 16 GiB.
export const binary = unlessNull((value) => {
  const power = value > 0 ? Math.max(0, Math.floor(Math.log2(value) / 10)) : 0;
  return `${Math.round((value / 1024 ** power) * 10) / 10} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][power]}`;
});

export const seconds = unlessNull((value) =>
  value < 0 ? `−${seconds(-value)}` : (value >= 10 ? whole : tenths).format(value),
);

// Rounded down: what is not whole never reads 100 %.
export const share = unlessNull((value) => `${tenths.format(Math.floor(value * 1000 + 1e-9) / 10)} %`);

export const moment = (iso) => `${written(iso)} ${zoneName()}`;

// From a moment to another, with the day once where they share it.
export const period = (from, until) => {
  const [[day, begin], [lastDay, end]] = [from, until].map((iso) => written(iso).split(" "));
  return `${day} ${begin} – ${day === lastDay ? end : `${lastDay} ${end}`} ${zoneName()}`;
};

// Under a head that names the zone.
export const when = unlessNull(written);

export const either = (yes, no) => unlessNull((value) => (value ? yes : no));

export const duration = unlessNull((time) => {
  if (time < 90) return `${Math.max(0, Math.round(time))} s`;
  if (time < 3600) return `${Math.round(time / 60)} min`;
  if (time < 172800) return `${Math.round(time / 360) / 10} h`;
  return `${Math.round(time / 8640) / 10} days`;
});

export const several = (number, noun, plural = `${noun}s`) => `${whole.format(number)} ${number === 1 ? noun : plural}`;

// How bad a share of failed jobs is, in a word; a few jobs that finished or failed say nothing.
const FEW_JOBS = 5;

export const verdict = ({ failed_share: failedShare, finished_count: finished, failed_count: failed }) => {
  if (failedShare === null || failedShare === undefined) return "";
  if (finished + failed < FEW_JOBS) return "few jobs";
  return failedShare >= 0.3 ? "failing" : failedShare >= 0.1 ? "raised" : "well";
};
