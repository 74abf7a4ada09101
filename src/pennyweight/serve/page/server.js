// Asking the server: the token, one request, and a whole run of texts in parts that the server accepts.

const TOKEN = "pennyweight-token";
const PART_TEXTS = 32;
const PART_CHARACTERS = 100_000;
const AT_ONCE = 2;
const LONGEST_WAIT = 60;
// A run in which the first texts are all refused is wrong as a whole.
const REFUSED_AT_FIRST = 16;

/** What the server refused, in its own words; status 0 where it did not answer. */
export class ServerError extends Error {
  constructor(message, status, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

let token = sessionStorage.getItem(TOKEN);
export const hasToken = () => token !== null;

export function setToken(given) {
  token = given || null;
  if (token === null) sessionStorage.removeItem(TOKEN);
  else sessionStorage.setItem(TOKEN, token);
}

/** Takes `#token=...` from the address, where it would stay in the history; other parts of the fragment remain. */
export function takeTokenFromAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (!parts.has("token")) return;
  setToken(parts.get("token").trim());
  parts.delete("token");
  const rest = parts.toString();
  history.replaceState(null, "", location.pathname + location.search + (rest ? `#${rest}` : ""));
}

/** The JSON that the server answers; `body` makes it a POST. Throws ServerError, or AbortError by `signal`. */
export async function ask(path, { body, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, signal, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (token !== null && /[^\x21-\x7e]/.test(token)) throw new ServerError("A token contains only ASCII characters and no blanks.", 401);
    throw new ServerError("The server does not answer. Check that it is running, then try again.", 0);
  }
  const text = await response.text();
  let answer = null;
  try { answer = JSON.parse(text); } catch { /* what stands between may answer in HTML */ }
  if (response.ok && answer !== null) return answer;
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After"));
  const words = typeof answer?.error === "string" ? answer.error : `The server answered ${response.status} ${response.statusText}.`;
  throw new ServerError(words, response.status, Number.isFinite(retryAfter) ? retryAfter : null);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener("abort", stopped); resolve(); }, 1000 * seconds);
    if (signal?.aborted) stopped();
    else signal?.addEventListener("abort", stopped, { once: true });
  });
}

/** As `ask`, but waits as long as the server says while its queue is full. */
export async function askPatiently(path, { body, signal, onWait = () => {} }) {
  for (;;) {
    try {
      return await ask(path, { body, signal });
    } catch (error) {
      if (error.status !== 429) throw error;
      const seconds = Math.min(error.retryAfter ?? 1, LONGEST_WAIT);
      onWait(seconds);
      await pause(seconds, signal);
    }
  }
}

export const classifierPath = (name, verb = "") => `/v1/classifiers/${encodeURIComponent(name)}${verb}`;

async function predictPart(names, texts, options) {
  if (names.length === 1) {
    return [await askPatiently(classifierPath(names[0], "/predict"), { body: { texts, abstain_below: null }, ...options })];
  }
  const body = { classifiers: names, texts, abstain_below: null };
  return (await askPatiently("/v1/predict", { body, ...options })).results;
}

const characters = (text) => (Array.isArray(text) ? text[0].length + text[1].length : text.length);

/** Positions [from, to) of parts that are small enough, from the last to the first. */
function inParts(texts) {
  const parts = [];
  let from = 0, sum = 0;
  texts.forEach((text, place) => {
    sum += characters(text);
    if (place > from && (place - from >= PART_TEXTS || sum > PART_CHARACTERS)) {
      parts.push([from, place]);
      from = place;
      sum = characters(text);
    }
  });
  if (from < texts.length) parts.push([from, texts.length]);
  return parts.reverse();
}

/**
 * The predictions of every text by every classifier: [classifier][text], each `{label, probability, probabilities}`,
 * `{labels, probabilities}`, or `{problem}` with the server's words for a text that it refuses among others.
 *
 * Parts that are too large for the server are halved, a full queue is waited for. What is there when `signal` stops the
 * run is in `found`, which the caller hands in.
 */
export async function predictAll(names, texts, { found, signal, onProgress, onWait }) {
  const waiting = inParts(texts);
  const stop = new AbortController();
  const stopped = AbortSignal.any([signal, stop.signal]);
  let done = 0, refused = 0;

  function refuse(place, error) {
    refused += 1;
    if (texts.length === 1 || (refused === done + 1 && refused >= Math.min(REFUSED_AT_FIRST, texts.length))) throw error;
    for (const column of found) column[place] = { problem: error.message };
    done += 1;
  }

  async function work() {
    for (let part = waiting.pop(); part !== undefined; part = waiting.pop()) {
      const [from, to] = part;
      try {
        const results = await predictPart(names, texts.slice(from, to), { signal: stopped, onWait });
        results.forEach((result, which) => result.predictions.forEach((one, k) => { found[which][from + k] = one; }));
        done += to - from;
      } catch (error) {
        if (error.status !== 413 && error.status !== 422) throw error;
        if (to - from > 1) {
          const middle = (from + to) >> 1;
          waiting.push([middle, to], [from, middle]);
          continue;
        }
        refuse(from, error);
      }
      onProgress(done);
    }
  }

  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } catch (error) {
    stop.abort();
    throw error;
  }
}
