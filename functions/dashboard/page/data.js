// The requests of this page.
import { token } from "./state.js";

const TIMEOUT_MS = 30_000;
const DATA = "data";
// A function of its own, beside the dashboard's.
export const STATEMENT = "../statement";

// The numbers need a token that is not there, or not good.
export class Refused extends Error {}

// Asked once: a request without a token where one is needed would only be an error in the log.
const access = fetch(new URL("access", import.meta.url))
  .then((answer) => answer.json())
  .catch(() => ({ token_needed: true }));

export const load = async (query, signal) => {
  const answer = await ask(query, signal);
  return answer.json().catch(() => {
    throw new Error(
      "The server's answer broke off. What is shown is the last that it said; this page asks again every minute.",
    );
  });
};

// The same as a file; the token goes by a header, so a plain link cannot fetch it.
export const loadFile = async (query, path = DATA) => (await ask(query, new AbortController().signal, path)).blob();

const ask = async (query, signal, path = DATA) => {
  if (!token.get() && (await access).token_needed) throw new Refused("");
  const url = new URL(`${path}?${new URLSearchParams(query)}`, import.meta.url);
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  const answer = await reach(url, {
    headers,
    cache: "no-store",
    signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
  });
  if (!answer.ok) throw await problemOf(answer);
  return answer;
};

const reach = async (url, options) => {
  try {
    return await fetch(url, options);
  } catch {
    throw new Error(
      "The server does not answer. What is shown is the last that it said; this page asks again every minute.",
    );
  }
};

const problemOf = async (answer) => {
  const body = await answer.json().catch(() => null);
  const reason = body?.error?.message ?? "it gave no reason";
  if (answer.status === 401) token.forget();
  if (answer.status === 401 || answer.status === 403)
    return new Refused(
      `The server refused: ${reason}. Sign in with a good token; what is shown is the last that it said.`,
    );
  if (answer.status === 503)
    return new Error(
      `The store is away: ${reason}. What is shown is the last that it said; this page asks again every minute.`,
    );
  return new Error(`The server answered ${answer.status}: ${reason}. What is shown is the last that it said.`);
};
