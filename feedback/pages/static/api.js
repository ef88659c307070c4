// Calling our own JSON routes: the session's cookie goes along by itself, the CSRF token as a header.

import { el } from "./dom.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? null;

// The opaque id of the person in this browser: sent as `user`, so that ratings have a rater of their own.
export const user = meta("user");

// Where to sign in again, and come back here from.
export const signIn = () => `/signin?next=${encodeURIComponent(location.pathname + location.search + location.hash)}`;

// What went wrong, in words for people. `status` is 0 where there was no answer at all; `param`: what was
// wrong about the request, where the answer says so.
export class ApiError extends Error {
  constructor(message, status, param = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

// The same as content of a dialog, over which nobody can press the frame's link.
export const wrong = (error) =>
  error.status === 401 ? ["You are signed out. ", el("a", { href: signIn() }, "Sign in again")] : [error.message];

// An answer whose status is good, else an ApiError. `options.json` is a body; `options.signal` aborts.
export async function call(method, path, options = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = meta("csrf") ?? "";
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      body: options.json === undefined ? undefined : JSON.stringify(options.json),
      signal: options.signal,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The service cannot be reached. Check the connection; try again.", 0);
  }
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export const get = async (path, options) => (await call("GET", path, options)).json();
export const post = async (path, json, options) => (await call("POST", path, { ...options, json })).json();

async function refusal(answer) {
  let error = {};
  try {
    error = (await answer.json()).error ?? {};
  } catch {
    // A proxy in between may answer with a page of its own: then the status has to do.
  }
  // 401: the session ran out, or its key was revoked. The page stays, so that nothing written is lost.
  if (answer.status === 401) document.dispatchEvent(new CustomEvent("signedout"));
  const message = error.message ?? `The service answered with ${answer.status}. Try again in a moment.`;
  return new ApiError(message, answer.status, error.param);
}
