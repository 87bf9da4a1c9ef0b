// The time zone in which times are written: UTC, or the reader's own.
const KEY = "skytally-zone";
const OWN = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const ownZone = OWN === "UTC" ? null : OWN;

export const isOwn = () => ownZone !== null && localStorage.getItem(KEY) === "own";

export const setOwn = (own) => localStorage.setItem(KEY, own ? "own" : "utc");

export const zoneName = () => (isOwn() ? ownZone : "UTC");

// Sweden's way to write a date is ISO's.
const formats = Object.fromEntries(
  ["UTC", OWN].map((timeZone) => [
    timeZone,
    new Intl.DateTimeFormat("sv", {
      timeZone,
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
    }),
  ]),
);

// A moment without its zone, to the minute: 2026-11-30 14:05.
export const written = (iso) => {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? iso : formats[zoneName()].format(at);
};

// The value of an input of a time, and back.
export const toInput = (iso) => (iso ? written(iso).replace(" ", "T") : "");

export const fromInput = (value) => {
  if (!value) return "";
  const minute = value.slice(0, 16);
  return isOwn() ? new Date(minute).toISOString().replace(".000", "") : `${minute}:00Z`;
};

// The mark of a moment on an axis: its day at midnight, else its time.
const day = Object.fromEntries(
  ["UTC", OWN].map((timeZone) => [
    timeZone,
    new Intl.DateTimeFormat("en-GB", { timeZone, day: "numeric", month: "short" }),
  ]),
);

export const tick = (date) => {
  const [, time] = written(date).split(" ");
  return time === "00:00" ? day[zoneName()].format(date) : time;
};
