// Two blind answers side by side: the choice, and after it which versions they were.

import { el, find } from "./dom.js";
import { chosenReasons, reasonChips } from "./rating.js";
import { show } from "./markdown.js";

const STRENGTHS = [["slightly", 0.1], ["clearly", 0.5], ["far better", 1]];
// key, what the API calls it, what the button says
export const CHOICES = [
  ["1", "a", "A is better"],
  ["2", "b", "B is better"],
  ["0", "tie", "Tie"],
  ["x", "both_bad", "Both bad"],
];

function prose(text) {
  const target = el("div", { class: "prose" });
  if (text.trim()) show(target, text);
  else target.append(el("p", { class: "soft" }, "(an empty answer)"));
  return target;
}

// A pair that waits for its choice. `act.choose(choice)` gets {winner, strength, reasons, comment}; `act.skip()`.
export function openPair(turn, act) {
  const sides = ["a", "b"].map((side) =>
    el("article", { class: "card", "aria-label": `Answer ${side.toUpperCase()}` }, el("h3", {}, `Answer ${side.toUpperCase()}`), prose(turn[side].text)),
  );
  const strengths = STRENGTHS.map(([label, value], index) =>
    el("label", { class: "chip" }, el("input", { type: "radio", name: "strength", value, checked: index === 1 }), label),
  );
  const comment = el("textarea", { id: "pair-comment", rows: 2, maxlength: 20000 });
  const reasons = el("fieldset", {}, el("legend", {}, "What decided it?"), el("div", { class: "chips" }, reasonChips("up", [], "pair-reason")));
  const form = el("form", { class: "choice", "aria-label": "Your choice" });
  const choose = (winner) =>
    act.choose({
      winner,
      strength: winner === "a" || winner === "b" ? Number(find("input[name=strength]:checked", form).value) : 0,
      reasons: chosenReasons(reasons),
      comment: comment.value.trim() || null,
    });
  const picks = CHOICES.map(([key, winner, label]) =>
    el("button", { type: "button", "data-choice": winner, "data-focus": `choice:${winner}`, class: winner === "a" || winner === "b" ? "primary" : "", onclick: () => choose(winner) }, label, el("kbd", { "aria-hidden": "true" }, key)),
  );
  form.append(
    el("fieldset", { class: "row" }, el("legend", {}, "How much better?"), el("div", { class: "chips" }, strengths)),
    el("div", { class: "picks" }, picks),
    el("details", {}, el("summary", {}, "Say why"), el("div", { class: "stack" }, reasons, el("div", {}, el("label", { for: "pair-comment" }, "Comment"), comment))),
    el("p", { class: "spread hint" }, "Which versions they are is shown after your choice.", el("button", { type: "button", class: "quiet", onclick: act.skip }, "Skip: one answer will do")),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  return el("section", { class: "turn pair", tabindex: "-1", "aria-label": "Two answers" }, el("h2", { class: "unseen" }, "Two answers"), el("div", { class: "sides" }, sides), form);
}

function verdict({ winner }, replies) {
  const [a, b] = replies.map((reply) => reply.model);
  if (winner === "tie") return `You called it a tie between ${a} (A) and ${b} (B).`;
  if (winner === "both_bad") return `You found both bad: ${a} (A) and ${b} (B).`;
  const [chosen, other] = winner === "a" ? [a, b] : [b, a];
  if (chosen === other) return `You preferred ${winner.toUpperCase()}. Both were samples of ${chosen}.`;
  return `You preferred ${winner.toUpperCase()}, by ${chosen}; the other one was by ${other}.`;
}

// What the tag of a reply says once the conversation has gone on.
export function shortVerdict({ winner }, replies, shown) {
  if (winner === "tie") return "compared: a tie";
  if (winner === "both_bad") return "compared: both bad";
  const other = replies[1 - shown]?.model;
  return shown === (winner === "b" ? 1 : 0) ? `preferred to ${other}` : `compared: ${other} was preferred`;
}

// A pair after its choice: both sides with their versions. `act.goOn(index)` picks the one to continue with.
export function revealedPair(turn, act) {
  const sides = turn.replies.slice(0, 2).map((reply, index) => {
    const on = turn.shown === index;
    const letter = "AB"[index];
    return el(
      "article",
      { class: on ? "card chosen" : "card", "aria-label": `Answer ${letter}, by ${reply.model}` },
      el("h3", {}, `Answer ${letter}`, el("span", { class: "tag accent version" }, reply.model), on && el("span", { class: "tag" }, "continues")),
      prose(reply.text),
      !on && el("p", {}, el("button", { type: "button", "data-focus": `go-on:${index}`, onclick: () => act.goOn(index) }, `Go on with ${letter}`)),
    );
  });
  return [el("div", { class: "sides" }, sides), el("p", { class: "note good verdict" }, verdict(turn.comparison, turn.replies))];
}
