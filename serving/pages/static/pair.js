// Two blind answers side by side: the choice, and after it which versions they were.

import { button, el, find } from "./dom.js";
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

const chips = (legend, choices) =>
  el("fieldset", {}, el("legend", {}, legend), el("div", { class: "chips" }, choices));

function strengthChips() {
  return STRENGTHS.map(([label, value], index) => {
    const radio = el("input", { type: "radio", name: "strength", value, checked: index === 1 });
    return el("label", { class: "chip" }, radio, label);
  });
}

function why(reasons, comment) {
  const label = el("label", { for: comment.id }, "Comment");
  const groups = el("div", { class: "reasons" }, reasons);
  const fields = el("div", { class: "stack" }, groups, el("div", {}, label, comment));
  return el("details", {}, el("summary", {}, "Say why"), fields);
}

// The form of a choice. `choose` gets {winner, strength, reasons, comment}.
function choiceForm(choose, skip) {
  const strength = chips("How much better?", strengthChips());
  const good = chips("What makes one better?", reasonChips("up", [], "pair-better"));
  const bad = chips("Or what makes both bad?", reasonChips("down", [], "pair-bad"));
  const comment = el("textarea", { id: "pair-comment", rows: 2, maxlength: 20000 });
  const pick = ([key, winner, label]) => {
    const decides = winner === "a" || winner === "b";
    // Those that speak for what was chosen; of a tie, both.
    const reasons = [winner !== "both_bad" && good, !decides && bad].filter(Boolean);
    const said = () => ({
      winner,
      strength: decides ? Number(find("input:checked", strength).value) : 0,
      reasons: reasons.flatMap((group) => chosenReasons(group)),
      comment: comment.value.trim() || null,
    });
    const how = { "data-choice": winner, class: decides ? "primary" : null, onclick: () => choose(said()) };
    return button(how, label, el("kbd", { "aria-hidden": "true" }, key));
  };
  const hint = el("p", { class: "hint" }, "Which versions they are is shown after your choice.");
  const leave = button({ class: "quiet", onclick: skip }, "Skip: one answer will do");
  return el(
    "form",
    { class: "choice", "aria-label": "Your choice", onsubmit: (event) => event.preventDefault() },
    el("div", { class: "spread" }, strength, hint),
    el("div", { class: "picks" }, CHOICES.map(pick)),
    el("div", { class: "choice-end" }, why([good, bad], comment), leave),
  );
}

const OPEN = 20; // pairs of which what is filled in is kept, the newest ones
const opened = new Map(); // a pair's id → {element, act}, the oldest first

// A pair that waits for its choice: `act.choose(choice)`, `act.skip()`. It is built once, so that what is filled
// in stays when the conversation is drawn again, or another one was looked at.
export function openPair(turn, act) {
  const known = opened.get(turn.id);
  if (known) {
    known.act = act;
    return known.element;
  }
  const pair = { act, element: null };
  const sides = ["a", "b"].map((side) => {
    const name = `Answer ${side.toUpperCase()}`;
    return el("article", { class: "card", "aria-label": name }, el("h3", {}, name), prose(turn[side].text));
  });
  pair.element = el(
    "section",
    { class: "turn pair", tabindex: "-1", "aria-label": "Two answers" },
    el("h2", { class: "unseen" }, "Two answers"),
    el("div", { class: "sides" }, sides),
    choiceForm((choice) => pair.act.choose(choice), () => pair.act.skip()),
  );
  opened.set(turn.id, pair);
  for (const id of [...opened.keys()].slice(0, -OPEN)) opened.delete(id);
  return pair.element;
}

function verdict({ winner }, replies) {
  const [a, b] = replies.map((reply) => el("strong", { class: "version" }, reply.model));
  if (winner === "tie") return ["You called it a tie between ", a, " (A) and ", b, " (B)."];
  if (winner === "both_bad") return ["You found both bad: ", a, " (A) and ", b, " (B)."];
  const [chosen, other] = winner === "a" ? [a, b] : [b, a];
  const side = `You preferred ${winner.toUpperCase()}`;
  if (a.textContent === b.textContent) return [`${side}. Both were samples of `, chosen, "."];
  return [`${side}, by `, chosen, "; the other one was by ", other, "."];
}

// What the tag of a reply says once the conversation has gone on.
export function shortVerdict({ comparison: { winner }, replies, shown }) {
  if (winner === "tie") return "compared: a tie";
  if (winner === "both_bad") return "compared: both bad";
  const other = replies[1 - shown]?.model;
  const same = other === replies[shown].model;
  if (shown === (winner === "b" ? 1 : 0)) return `preferred to ${same ? "another answer of " : ""}${other}`;
  return `compared: ${same ? "the other answer" : other} was preferred`;
}

// A pair after its choice: both sides with their versions. `act.goOn(index)` picks the one to continue with.
export function revealedPair(turn, act) {
  const sides = turn.replies.slice(0, 2).map((reply, index) => {
    const on = turn.shown === index;
    const letter = "AB"[index];
    const goOn = { "data-focus": `go-on:${index}`, onclick: () => act.goOn(index) };
    return el(
      "article",
      { class: on ? "card chosen" : "card", "aria-label": `Answer ${letter}, by ${reply.model}` },
      el(
        "h3",
        {},
        `Answer ${letter}`,
        el("span", { class: "tag accent version" }, reply.model),
        on && el("span", { class: "tag" }, "continues"),
      ),
      prose(reply.text),
      !on && el("p", { class: "go-on" }, button(goOn, `Go on with ${letter}`)),
    );
  });
  const words = verdict(turn.comparison, turn.replies);
  return [el("p", { class: "note good verdict" }, words), el("div", { class: "sides" }, sides)];
}
