// From a label down to the conversation. All of it was written by users or by a model: text, and never more.

import { get } from "./api.js";
import { el, find, timed } from "./dom.js";
import { many } from "./board-words.js";

const FINISHES = { stop: "", length: "cut at its longest", null: "broken off" };

const dialog = find("#conversation");
find("#close-conversation").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

export const openReply = (id) =>
  open("Conversation", async () => {
    const path = `/v1/completions/${encodeURIComponent(id)}`;
    const [reply, ratings] = await Promise.all([get(path), get(`${path}/ratings`)]);
    return [...facts(reply), ...messages(reply), spoken(reply.policy, reply.reply, "said reply"), ...labels("Ratings", ratings.data)];
  });

export const openPair = (id) =>
  open("Pair", async () => {
    const pair = await get(`/v1/comparisons/${encodeURIComponent(id)}`);
    const asked = pair.a ?? pair.b;
    const side = (name, reply) => spoken(`${name}${reply ? `, ${reply.policy}` : ""}`, reply?.reply ?? null, "said reply");
    return [...(asked ? messages(asked) : []), el("div", { class: "sides" }, side("Left", pair.a), side("Right", pair.b)), ...labels("Choices", pair.data)];
  });

let opened = 0; // how often it was opened: a late answer is not for the next one

async function open(title, load) {
  const mine = ++opened;
  find("#conversation-title").textContent = title;
  const body = find("#conversation-body");
  body.replaceChildren(el("p", { class: "soft" }, "Loading …"));
  dialog.showModal();
  try {
    const parts = await load();
    if (mine === opened) body.replaceChildren(...parts);
  } catch (error) {
    if (mine === opened) body.replaceChildren(el("p", { class: "note bad" }, error.message));
  }
}

function facts(reply) {
  const { finish_reason: reason } = reply;
  const finish = FINISHES[reason] ?? reason;
  const parts = [reply.policy, timed(reply.created), many(reply.completion_tokens, "token"), finish, reply.metadata?.tag];
  const told = parts.filter(Boolean).flatMap((part) => [" · ", part]);
  return [el("p", { class: "soft small" }, told.slice(1))];
}

function messages(reply) {
  if (reply.messages === null) return [el("p", { class: "note" }, "This was asked for with store: false: its text was not kept.")];
  return reply.messages.map((message) => spoken(message.role, text(message.content), "said"));
}

// A message is text, or a list of parts of which some are text.
function text(content) {
  if (typeof content === "string" || content === null || content === undefined) return content ?? null;
  const parts = Array.isArray(content) ? content : [content];
  return parts.map((part) => (typeof part?.text === "string" ? part.text : JSON.stringify(part))).join("\n");
}

function spoken(who, words, kind) {
  return el("div", { class: kind, dir: "auto" }, el("b", {}, who), words ?? el("span", { class: "soft" }, "no text was kept"));
}

export function verdict(label) {
  if (label.rating === "up") return el("span", { class: "tag good" }, "Thumb up");
  if (label.rating === "down") return el("span", { class: "tag bad" }, "Thumb down");
  const words = { a: "Left chosen", b: "Right chosen", tie: "Tie", both_bad: "Both bad" };
  return el("span", { class: label.winner === "both_bad" ? "tag bad" : "tag" }, words[label.winner] ?? "");
}

function labels(title, data) {
  if (data.length === 0) return [];
  const items = data.map((label) =>
    el(
      "li",
      {},
      el("div", { class: "row" }, verdict(label), label.reasons.map((reason) => el("span", { class: "tag" }, reason)), el("span", { class: "soft" }, timed(label.created), " · ", el("code", {}, label.rater))),
      label.comment ? el("p", { dir: "auto" }, label.comment) : null,
      label.correction ? el("p", { dir: "auto" }, el("b", {}, "Better: "), el("bdi", {}, label.correction)) : null,
    ),
  );
  return [el("h3", {}, title), el("ul", { class: "labels" }, items)];
}
