// Numbers and times as people read them. Null is “not known” and never a zero.
const UNKNOWN = "–";
const group = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const text = (value) => (value === null || value === undefined ? UNKNOWN : String(value));

export const count = (value) => (value === null || value === undefined ? UNKNOWN : group.format(value));

export const hours = (value) => {
  if (value === null || value === undefined) return UNKNOWN;
  const digits = value >= 1000 || value === 0 ? 0 : value >= 10 ? 1 : value >= 0.1 ? 2 : 4;
  return new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);
};

export const share = (value) => (value === null || value === undefined ? UNKNOWN : `${(Math.floor(value * 1000 + 1e-9) / 10).toFixed(1)} %`);

export const ago = (seconds) => {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
};

export const moment = (iso) => iso.replace("T", " ").replace(/(:\d\d)(:\d\d(\.\d+)?)?Z$/, "$1 UTC");

export const when = (value) => (value ? moment(value) : UNKNOWN);

export const yes = (value) => (value === null || value === undefined ? UNKNOWN : value ? "yes" : "not yet");
