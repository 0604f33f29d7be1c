"use strict";
// Requests to the server that the page comes from, and what is said when one fails.

const element = (id) => document.getElementById(id);
const TOKEN = document.querySelector('meta[name="fieldmark-token"]').content;
const KEY = "fieldmark-key";

/** What went wrong and what to do, in words for whoever it happened to. */
class Failure extends Error {
  /** @param {number} wait seconds after which to try again; 0 if trying again by itself is of no use. */
  constructor(title, advice, { status = 0, said = "", wait = 0 } = {}) {
    super(title);
    Object.assign(this, { title, advice, status, said, wait });
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return [0, 408, 429, 500, 503].includes(this.status);
  }
}

const WORDS = {
  401: ["The server asks for a key", "Enter it above."],
  403: ["The server does not accept this page any more", "It was started anew. Load the page again."],
  404: ["The server does not have this any more", "It was started anew, with other models. Load the page again."],
  408: ["The image took too long to arrive", "Try again where the connection is better, or with a smaller image."],
  413: ["The image is too large for this server", "Choose a smaller one, or a screenshot of it."],
  415: ["The server does not read files of this kind", "Choose a photo as JPEG, PNG or WebP."],
  422: ["This is not an image that can be read", "Choose a photo as JPEG, PNG or WebP."],
  429: ["The server has more to do than it can", "The image is sent again by itself."],
  500: ["Something is wrong with the server", "Its log says what. Other images may well work."],
  503: ["The server was not ready in time", "The image is sent again by itself."],
};

/** The JSON that the server answers with. Throws a Failure, or an AbortError if the signal aborts it. */
async function ask(path, { query = {}, headers = {}, ...options } = {}) {
  const key = sessionStorage.getItem(KEY);
  if (key) headers = { ...headers, Authorization: `Bearer ${key}` };
  const given = Object.entries(query).filter(([, value]) => value !== null);
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(given)}`, { ...options, headers });
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const large = options.body?.size > 2 ** 24 ? " The image may also be too large for it." : "";
    throw new Failure("The server does not answer", `Check that it is running and that you are connected to it, then try again.${large}`);
  }
  const { error } = await response.json().catch(() => ({}));
  const isTooLarge = response.status === 422 && error?.message.includes("more than the limit");
  const [title, advice] = WORDS[isTooLarge ? 413 : response.status] ?? ["The server cannot answer this", error?.hint || "Try another image."];
  throw new Failure(title, advice, {
    status: response.status,
    said: error ? `The server says: ${error.message}.` : "",
    wait: [429, 503].includes(response.status) ? Math.max(1, Number(response.headers.get("Retry-After")) || 1) : 0,
  });
}

const api = {
  models: () => ask("/v1/models"),
  classes: (model) => ask("/v1/classes", { query: { model } }).then((found) => found.classes),
  predict: (model, image, top, signal) => ask("/v1/predict", { method: "POST", query: { model, top }, body: image, headers: RAW, signal }),
  explain: (model, image, signal) => ask("/v1/explain", { method: "POST", query: { model }, body: image, headers: RAW, signal }),
  correct(model, image, name, answer) {
    const body = new FormData();
    body.append("image", image);
    body.append("class", name);
    body.append("answer", answer);
    return ask("/v1/feedback", { method: "POST", query: { model }, body, headers: { "X-Fieldmark-Token": TOKEN } });
  },
};
const RAW = { "Content-Type": "application/octet-stream" };

/** Ends after so many seconds, or with an AbortError. */
const pause = (seconds, signal) =>
  new Promise((done, fail) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), fail(signal.reason)), { once: true });
  });
