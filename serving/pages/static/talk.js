// Asking for replies: one at a time in each conversation, which goes on when another one is looked at.

import { ApiError, call, post, user } from "./api.js";
import { latest, messages, save } from "./conversations.js";
import { StreamError, pieces } from "./stream.js";

// A small model at temperature 1 rambles; a reply that nobody stops should still end.
const SAMPLING = { temperature: 0.7, max_tokens: 512 };
const SAVE_EVERY = 1000; // milliseconds between two savings of a reply that is being written

const running = new Map(); // conversation id → {controller, kind, reply}
const failures = new Map(); // conversation id → {message, kind, signedOut?}
const choosing = new Set(); // ids of pairs whose choice is on its way

export const runs = (conversation) => running.get(conversation.id) ?? null;
export const failure = (conversation) => failures.get(conversation.id) ?? null;
export const chooses = (turn) => choosing.has(turn.id);
export const stop = (conversation) => running.get(conversation.id)?.controller.abort();

const last = (conversation) => conversation.turns.at(-1);

// The message alone is longer than what the model can read.
class TooLong extends Error {}

const isTooLong = (error) =>
  error instanceof ApiError && ["input_tokens", "input_text"].includes(error.param);

// Without the oldest question and what was answered; null where only the last question is left.
function withoutOldest(said) {
  const next = said.findIndex(({ role }, index) => index > 0 && role === "user");
  return next > 0 ? said.slice(next) : null;
}

// Send what was said; where the model cannot read all of it, without its beginning. `send(body)` throws
// ApiError. What came, and how many messages it answers without.
async function sent(conversation, said, send) {
  for (let left = said.slice(conversation.without ?? 0); left; left = withoutOldest(left)) {
    try {
      const answer = await send(asked(conversation, left));
      conversation.without = said.length - left.length;
      return { answer, without: conversation.without };
    } catch (error) {
      if (!isTooLong(error)) throw error;
    }
  }
  throw new TooLong("This message is longer than the model can read. Send a shorter one.");
}

function asked(conversation, said) {
  return {
    model: "policy",
    messages: said,
    user,
    metadata: { conversation_id: conversation.id },
    ...SAMPLING,
  };
}

// Do one thing in a conversation; what goes wrong is kept as its failure. `watch.changed(conversation)` is
// called when it begins and when it has ended.
async function run(conversation, kind, watch, work) {
  if (running.has(conversation.id)) return;
  const job = { controller: new AbortController(), kind, reply: null };
  running.set(conversation.id, job);
  failures.delete(conversation.id);
  try {
    await work(job);
  } catch (error) {
    if (error instanceof TooLong) takeBack(conversation);
    if (error.name !== "AbortError") failures.set(conversation.id, failureOf(error, kind));
  } finally {
    running.delete(conversation.id);
    save(conversation);
    watch.changed(conversation);
  }
}

// In words, and what is to be tried again, if that may help.
function failureOf(error, kind) {
  if (error instanceof TooLong) return { message: error.message, kind: null };
  if (error.status === 401) return { message: "You are signed out.", kind: null, signedOut: true };
  if (error instanceof ApiError || error instanceof StreamError) return { message: error.message, kind };
  return { message: "The connection broke off in the middle of the reply. Try again.", kind };
}

// A message that cannot be answered is a draft again.
function takeBack(conversation) {
  if (last(conversation)?.role !== "user") return;
  conversation.draft ||= conversation.turns.pop().text;
}

// A streamed reply to the last message; where it has one already, another one beside it.
export function reply(conversation, watch) {
  return run(conversation, "reply", watch, async (job) => {
    const again = last(conversation).role === "assistant";
    const turns = again ? conversation.turns.slice(0, -1) : conversation.turns;
    const said = messages(conversation, turns);
    const turn = again ? last(conversation) : { role: "assistant", replies: [], shown: 0 };
    const before = turn.shown;
    const written = { text: "", id: null, model: null, finish: null };
    job.reply = written;
    turn.replies.push(written);
    turn.shown = turn.replies.length - 1;
    if (!again) conversation.turns.push(turn);
    watch.changed(conversation);
    try {
      await write(conversation, said, written, job, watch);
    } catch (error) {
      if (error.name === "AbortError") written.finish = "stopped";
      throw error;
    } finally {
      if (!written.text && written.finish !== "stop") discard(conversation, turn, before);
    }
  });
}

async function write(conversation, said, written, job, watch) {
  const { signal } = job.controller;
  const stream = (body) => call("POST", "/v1/chat/completions", { json: { ...body, stream: true }, signal });
  const { answer, without } = await sent(conversation, said, stream);
  written.without = without;
  let saved = performance.now();
  for await (const piece of pieces(answer)) {
    written.id ??= piece.id;
    written.model ??= piece.model;
    written.finish = piece.finish ?? written.finish;
    written.text += piece.text;
    if (piece.text) watch.grew(conversation, written);
    if (performance.now() - saved > SAVE_EVERY) {
      save(conversation);
      saved = performance.now();
    }
  }
  if (!written.finish) throw new StreamError("The reply ended early. Try again.");
}

// A reply that never began leaves nothing behind.
function discard(conversation, turn, before) {
  turn.replies.pop();
  turn.shown = before;
  if (!turn.replies.length) conversation.turns.splice(conversation.turns.indexOf(turn), 1);
}

// Two blind answers to the last message.
export function pair(conversation, watch) {
  return run(conversation, "pair", watch, async (job) => {
    watch.changed(conversation);
    const { signal } = job.controller;
    const two = (body) => post("/v1/pairs", body, { signal });
    const { answer, without } = await sent(conversation, messages(conversation), two);
    const side = ({ message, finish_reason: finish }) => ({ text: message.content ?? "", finish, without });
    conversation.turns.push({ role: "pair", id: answer.id, a: side(answer.a), b: side(answer.b) });
  });
}

// The choice of a blind pair: `choice` has winner, strength, reasons, comment. Then the conversation goes on
// with the reply that was preferred, and the versions are known. Throws ApiError; then the pair stays open.
export async function choose(conversation, turn, choice) {
  choosing.add(turn.id);
  let said;
  try {
    said = await post("/v1/comparisons", { pair_id: turn.id, ...choice, user });
  } finally {
    choosing.delete(turn.id);
  }
  const replies = ["a", "b"].map((side) => ({
    ...turn[side],
    id: said[side].completion_id,
    model: said[side].policy,
  }));
  const chosen = {
    role: "assistant",
    replies,
    shown: said.winner === "b" ? 1 : 0,
    comparison: { winner: said.winner, strength: said.strength },
  };
  put(latest(conversation), turn, chosen);
}

// Leave a pair unanswered: the message waits for one plain reply.
export const skip = (conversation, turn) => put(conversation, turn);

// Something in the place of a pair, or nothing.
function put(conversation, pair, ...instead) {
  const place = conversation.turns.findIndex((turn) => turn.role === "pair" && turn.id === pair.id);
  if (place < 0) return;
  conversation.turns.splice(place, 1, ...instead);
  save(conversation);
}
