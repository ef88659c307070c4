// Reasons and raters of the dashboard. What people wrote goes in as text.

import { leading } from "./board-labels.js";
import { el, replace } from "./dom.js";
import { count, many, share } from "./board-words.js";

const MOST_REASONS = 12;

// `lead` shows the labels that a figure counts.
export function showReasons(parent, reasons, lead) {
  if (reasons.length === 0) return nothing(parent, "Nobody ticked a reason in this selection.");
  const rows = reasons.slice(0, MOST_REASONS).map((row) => ({
    reason: row.reason,
    ties: row.tie ?? 0,
    good: (row.up ?? 0) + (row.chosen ?? 0),
    bad: (row.down ?? 0) + (row.both_bad ?? 0),
  }));
  const most = Math.max(1, ...rows.flatMap((row) => [row.good, row.bad]));
  replace(
    parent,
    el(
      "table",
      { class: "reasons" },
      el("thead", { class: "unseen" }, el("tr", {}, ["Reason", "For", "Against"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, el("th", { scope: "row" }, leading({ reason: row.reason }, el("bdi", {}, row.reason), lead), tied(row.ties)), bar("for", row.good, most), bar("against", row.bad, most)))),
    ),
  );
}

// Given with a tie, a reason speaks for neither.
const tied = (ties) => (ties ? el("span", { class: "soft" }, ` (with ${many(ties, "tie")})`) : null);

function bar(kind, value, most) {
  const line = el("i", {});
  line.style.width = `${(65 * value) / most}%`;
  return el("td", {}, el("div", { class: `gauge ${kind}` }, value ? line : null, value ? el("span", {}, count(value)) : el("span", { class: "unseen" }, "0")));
}

export function showRaters(parent, { loudest }) {
  if (loudest.length === 0) return nothing(parent, "Nobody in this time.");
  parent.replaceChildren(
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Rater"), el("th", { scope: "col", class: "number" }, "Labels"), el("th", { scope: "col", class: "number" }, "Share"))),
      el(
        "tbody",
        {},
        loudest.map(({ rater, labels, share: part }) =>
          el("tr", {}, el("td", {}, el("code", {}, rater)), el("td", { class: "number" }, count(labels)), el("td", { class: "number" }, share(part, 1))),
        ),
      ),
    ),
  );
}

function nothing(parent, text) {
  parent.replaceChildren(el("p", { class: "nothing" }, text));
}
