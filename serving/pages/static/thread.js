// The turns of a conversation as elements. All of it is built again when something changes; a reply that is
// being written grows in place. What had the focus keeps it: the same element if it is still there, else the one of
// the same `data-focus`.

import { signIn } from "./api.js";
import { button, el, find, findAll } from "./dom.js";
import { icon } from "./icons.js";
import { show, writer } from "./markdown.js";
import { openPair, revealedPair, shortVerdict } from "./pair.js";
import { failure, runs } from "./talk.js";

const NEAR = 120; // pixels from the end within which a growing reply is followed
const WELCOME =
  "Each answer says which version of the model wrote it. The next one learns from your thumbs and choices.";
const SAMPLES = [
  "Explain to a ten-year-old why the sky is blue",
  "Three quick ideas for dinner with potatoes",
  "Write a short thank-you note to a neighbour",
  "What is the difference between weather and climate?",
];
const FORGOT = { class: "tag warn", title: "With them the conversation is longer than the model can read" };
const FINISHES = { length: "cut at its longest", stopped: "stopped" };

const box = find("#thread");
let pen = null; // {reply, writer} of the reply that is being written

const tool = (name, label, focus, onclick, more = {}) =>
  button(
    { class: "icon", "aria-label": label, title: label, "data-focus": focus, onclick, ...more },
    icon(name),
  );

function welcome(act) {
  const samples = SAMPLES.map((text) => button({ onclick: () => act.send(text) }, text));
  return el(
    "section",
    { class: "welcome" },
    el("h2", {}, "What would you like to ask?"),
    el("p", { class: "soft" }, WELCOME),
    el("div", { class: "samples" }, samples),
  );
}

function pager(turn, index, act) {
  if (turn.replies.length < 2) return null;
  const to = (there, label, name) =>
    tool(name, label, `${index}:${name}`, () => act.page(turn, there), { disabled: !turn.replies[there] });
  const { shown, replies } = turn;
  const [back, on] = [to(shown - 1, "Previous answer", "back"), to(shown + 1, "Next answer", "on")];
  return el("span", { class: "pager" }, back, `${shown + 1} of ${replies.length}`, on);
}

function saved(reply, index, act) {
  if (!reply.rating) return null;
  const { reasons, comment, correction } = reply.rating;
  const more = reasons.length || comment || correction ? "Edit details" : "Add details";
  const open = { class: "quiet", "data-focus": `${index}:details`, onclick: () => act.details(reply) };
  return el("span", { class: "saved" }, "Saved ", button(open, more));
}

function thumb(name, label, reply, index, act) {
  const pressed = reply.rating?.rating === name;
  const more = { class: `icon ${name}`, "aria-pressed": String(pressed), disabled: !reply.id };
  return tool(name, label, `${index}:${name}`, () => act.thumb(reply, name), more);
}

// Whether the answer that is shown was one of two to choose from.
const isOfPair = (turn) => Boolean(turn.comparison) && turn.shown < 2;
// Whether both sides of a choice stand side by side: until the conversation goes on.
const isRevealed = (conversation, turn) => isOfPair(turn) && turn === conversation.turns.at(-1);

function ending(conversation, turn, index, act) {
  const reply = turn.replies[turn.shown];
  const isLast = index === conversation.turns.length - 1;
  const finish = reply.finish === null ? "broken off" : FINISHES[reply.finish];
  const by = { class: "tag version", title: "The version that wrote this answer" };
  const copy = (event) => act.copy(reply, event.currentTarget);
  return el(
    "div",
    { class: "turn-end", role: "group", "aria-label": "About this answer" },
    thumb("up", "Good answer", reply, index, act),
    thumb("down", "Bad answer", reply, index, act),
    isLast && !runs(conversation) && tool("again", "Answer again", `${index}:again`, act.again),
    navigator.clipboard && tool("copy", "Copy", `${index}:copy`, copy),
    !isRevealed(conversation, turn) && pager(turn, index, act),
    reply.model && el("span", by, reply.model),
    finish && el("span", { class: "tag warn" }, finish),
    reply.without > 0 && el("span", FORGOT, `without the first ${reply.without} messages`),
    isOfPair(turn) && !isLast && el("span", { class: "tag" }, shortVerdict(turn)),
    saved(reply, index, act),
  );
}

function answer(conversation, turn, index, act) {
  const reply = turn.replies[turn.shown];
  const writing = runs(conversation)?.reply === reply;
  const by = reply.model ? `Answer by ${reply.model}` : "Answer";
  const names = { "aria-label": by, "data-index": index, "data-focus": `${index}:turn` };
  const heading = el("h2", { class: "unseen" }, by);
  const article = el("article", { class: "turn reply", tabindex: "-1", ...names }, heading);
  if (isRevealed(conversation, turn)) {
    article.classList.add("pair");
    article.append(...revealedPair(turn, { goOn: (side) => act.page(turn, side) }));
  } else {
    const prose = el("div", { class: "prose" });
    article.append(prose);
    if (writing) {
      article.classList.add("writing");
      article.setAttribute("aria-busy", "true");
      pen = { reply, writer: writer(prose) };
      if (reply.text) pen.writer.write(reply.text);
    } else if (reply.text.trim()) show(prose, reply.text);
    else prose.append(el("p", { class: "soft" }, "(an empty answer)"));
  }
  if (!writing) article.append(ending(conversation, turn, index, act));
  return article;
}

function turnOf(conversation, turn, index, act) {
  if (turn.role === "assistant") return answer(conversation, turn, index, act);
  if (turn.role === "pair") {
    return openPair(turn, { choose: (choice) => act.choose(turn, choice), skip: () => act.skip(turn) });
  }
  return el("article", { class: "turn said" }, el("h2", { class: "unseen" }, "You"), turn.text);
}

function tail(conversation, act) {
  const failed = failure(conversation);
  const job = runs(conversation);
  if (job?.kind === "pair") return el("p", { class: "turn waiting" }, "Two answers are being written…");
  if (job) return null;
  const waits = conversation.turns.at(-1)?.role === "user";
  if (!failed && !waits) return null;
  const message = failed?.message ?? "This message has no answer yet.";
  const again = { "data-focus": "retry", onclick: () => act.retry(failed?.kind ?? "reply") };
  return el(
    "div",
    { class: failed ? "turn note bad failure" : "turn note failure", role: failed ? "alert" : null },
    el("p", {}, message),
    (!failed || failed.kind) && button(again, failed ? "Try again" : "Answer now"),
    failed?.signedOut && el("a", { class: "button", "data-focus": "sign-in", href: signIn() }, "Sign in"),
  );
}

const atEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
export const toEnd = () => box.scrollTo({ top: box.scrollHeight });
// Two answers are read from their beginning.
const topOf = (element) => element.getBoundingClientRect().top;
const toStart = (element) => box.scrollBy({ top: topOf(element) - topOf(box) - 12 });

export function render(conversation, act) {
  const focused = document.activeElement;
  const top = box.scrollTop;
  const follow = atEnd();
  pen?.writer.end();
  pen = null;
  const turns = conversation.turns.map((turn, index) => turnOf(conversation, turn, index, act));
  const whole = () => el("div", { class: "turns" }, turns, tail(conversation, act));
  box.replaceChildren(turns.length || failure(conversation) ? whole() : welcome(act));
  if (document.activeElement === document.body) {
    const focus = focused?.dataset?.focus;
    if (focused !== document.body && box.contains(focused)) focused.focus();
    else if (focus) find(`[data-focus="${focus}"]`, box)?.focus();
  }
  if (follow) toEnd();
  else box.scrollTop = top;
}

// The reply that is being written has more text.
export function grew(reply) {
  if (pen?.reply !== reply) return;
  const follow = atEnd();
  pen.writer.write(reply.text);
  if (follow) requestAnimationFrame(toEnd);
}

// A pair that has just come: the keys that choose act on it.
export function focusPair() {
  const pair = find(".pair", box);
  pair?.focus({ preventScroll: true });
  if (pair) toStart(pair);
}

// The answer that has the focus, else the last one.
export function currentAnswer() {
  return document.activeElement?.closest?.(".reply") ?? findAll(".reply", box).at(-1) ?? null;
}

// Move the focus by a number of answers.
export function step(by) {
  const answers = findAll(".reply, .pair", box);
  const here = answers.indexOf(document.activeElement?.closest?.(".reply, .pair"));
  const there = here < 0 ? answers.at(-1) : answers[Math.min(Math.max(here + by, 0), answers.length - 1)];
  there?.focus();
  there?.scrollIntoView({ block: "nearest" });
}
