// The dashboard's figures at a glance.

import { el } from "./dom.js";
import { count, many, NONE, share, sure } from "./board-words.js";

export function showCards(parent, { since, totals, sides, raters, rewards }) {
  const live = rewards.data.find((reward) => reward.reward === rewards.live) ?? rewards.data.at(-1);
  const decided = sides.left + sides.right;
  parent.replaceChildren(
    card("Approval", share(totals.approval), sure(totals.approval_interval), many(totals.up + totals.down, "thumb")),
    card("Response rate", share(totals.response_rate, 1), sure(totals.response_interval, 1), `${count(totals.rated)} of ${many(totals.completions, "reply", "replies")}`),
    card("Labels", count(totals.labels), `${many(totals.up + totals.down, "thumb")}, ${many(totals.comparisons, "choice")}`),
    card("Ties", share(totals.tie_share), sure(totals.tie_interval), totals.comparisons ? `of ${many(totals.comparisons, "choice")}` : "no choices", bothBad(totals)),
    card("Left chosen", share(sides.left_share), sure(sides.left_interval), decided ? bias(sides.left_interval, decided) : "no blind pair decided"),
    card("Loudest ten", share(raters.share), `gave this share of ${many(raters.labels, "label")} by people`, `all versions and tags, ${since === null ? "all time" : "by whole days"}`),
    card("Reward model", share(live?.pair_accuracy), ...agreement(live), thumbs(live), live?.pairs ? "whatever is selected" : null),
  );
}

const bothBad = ({ both_bad_share: part, both_bad_interval: interval }) =>
  interval ? `both bad: ${share(part)}, ${sure(interval)}` : null;

function agreement(reward) {
  if (!reward) return ["none yet"];
  if (!reward.pairs) return [`nothing to measure it on yet: no held-out pair (${reward.reward})`];
  return [sure(reward.pair_accuracy_interval), `agrees with people on ${many(reward.pairs, "pair")} (${reward.reward})`];
}

// Pairs may go well where thumbs do not.
function thumbs(reward) {
  const auroc = reward?.thumb_auroc ?? null;
  if (auroc === null) return null;
  const told = `AUROC ${auroc.toFixed(2)} of ${many(reward.thumbs ?? 0, "thumb")}`;
  return auroc < 0.5 ? [told, el("span", { class: "warn-text" }, ": below chance")] : told;
}

// Sides are shuffled: who reads both chooses left half of the time.
function bias(interval, decided) {
  const blind = `of ${many(decided, "blind choice")}`;
  return interval[0] > 0.5 || interval[1] < 0.5 ? [blind, el("span", { class: "warn-text" }, ": surely not half")] : blind;
}

function card(title, figure, ...lines) {
  return el(
    "article",
    {},
    el("h2", {}, title),
    el("div", { class: "figure" }, figure ?? NONE),
    lines.filter(Boolean).map((line) => el("p", {}, ...[line].flat())),
  );
}
