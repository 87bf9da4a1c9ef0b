// The requests of this page.
import { token } from "./state.js";

const TIMEOUT_MS = 30_000;

// The numbers need a token that is not there, or not good.
export class Refused extends Error {}

// Asked once: a request without a token where one is needed would only be an error in the log.
const access = fetch(new URL("access", import.meta.url)).then((answer) => answer.json()).catch(() => ({ token_needed: true }));

export const load = async (query, signal) => {
  if (!token.get() && (await access).token_needed) throw new Refused("");
  const url = new URL(`data?${new URLSearchParams(query)}`, import.meta.url);
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  const [answer, body] = await ask(url, { headers, cache: "no-store", signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]) });
  if (answer.ok && body) return body;
  const reason = body?.error?.message ?? "it gave no reason";
  if (answer.status === 401) token.forget();
  if (answer.status === 401 || answer.status === 403) throw new Refused(`The server refused: ${reason}`);
  throw new Error(`The server answered ${answer.status}: ${reason}. What is shown is the last that it said.`);
};

const ask = async (url, options) => {
  try {
    const answer = await fetch(url, options);
    return [answer, await answer.json().catch(() => null)];
  } catch {
    throw new Error("The server does not answer. What is shown is the last that it said.");
  }
};
