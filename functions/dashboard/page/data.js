// The requests of this page.
import { token } from "./state.js";

export class Refused extends Error {}

// Asked once: a request without a token where one is needed would only be an error in the log.
const access = fetch(new URL("access", import.meta.url)).then((answer) => answer.json()).catch(() => ({ token_needed: true }));

export const load = async ({ view, window, cloud, until }) => {
  if (!token.get() && (await access).token_needed) throw new Refused("");
  const url = new URL("data", import.meta.url);
  for (const [name, value] of Object.entries({ view, window, cloud, until })) if (value) url.searchParams.set(name, value);
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  let answer;
  try {
    answer = await fetch(url, { headers, cache: "no-store" });
  } catch {
    throw new Error("The server does not answer. What is shown is the last that it said.");
  }
  const body = await answer.json().catch(() => null);
  if (answer.status === 401 || answer.status === 403) throw new Refused(body?.error?.message ?? "the token was refused");
  if (!answer.ok) throw new Error(`The server answered ${answer.status}: ${body?.error?.message ?? "no reason given"}`);
  return body;
};
