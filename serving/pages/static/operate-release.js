// Who answers, what is on trial, and what an operator can do about it.

import { button, el, moment } from "./dom.js";
import { draw } from "./operate-draw.js";
import { span, traffic } from "./operate-words.js";

export function showRelease(parent, { status, release }, acts) {
  const { trial, rules } = release;
  const { champion, previous } = status;
  const data = { champion, previous, rules, trial: trial && { ...trial, evidence: null }, left: trial && left(trial) };
  draw(parent, data, () =>
    trial
      ? [asks(trial, acts), arms(trial), facts(data), buttons(data, acts)]
      : [alone(champion), idle(rules), buttons(data, acts)],
  );
}

export function showWaiting(parent, { release }, acts) {
  parent.parentElement.hidden = release.waiting.length === 0;
  draw(parent, [release.waiting, release.trial?.kind !== "canary"], ([waiting, free]) =>
    el(
      "ul",
      { class: "waiting" },
      waiting.map((version) =>
        el(
          "li",
          { class: "spread" },
          el("strong", {}, version),
          el(
            "span",
            { class: "row" },
            free && button({ "data-focus": `canary ${version}`, onclick: () => acts.canary(version) }, "Begin", el("span", { class: "unseen" }, ` the canary of ${version}`)),
            button({ "data-focus": `drop ${version}`, class: "quiet", onclick: () => acts.drop(version) }, "Drop", el("span", { class: "unseen" }, ` ${version}`)),
          ),
        ),
      ),
    ),
  );
}

const MODES = {
  auto: "Raters decide: a canary that they find better is promoted",
  canary_then_ask: "Raters judge; a canary that they find better waits for an operator",
  ask_first: "A version waits for an operator before its canary, and again where raters find it better",
  at_once: "A version that the gate accepts is promoted at once",
};
const UNDECIDED = { wait: "it waits for an operator", promote: "it is promoted", abort: "it is aborted" };

export function showRules(parent, { release }, acts) {
  draw(parent, release.rules, (rules) => [
    el("p", {}, el("code", {}, rules.mode), ` ${MODES[rules.mode]}.`),
    el(
      "dl",
      { class: "facts" },
      ...fact("Share", `${traffic(rules.share)} of the traffic`),
      ...fact("Undecided", `after ${span(rules.canary)} ${UNDECIDED[rules.undecided]}`),
      ...fact("Watch", rules.watch > 0 ? `${span(rules.watch)} after a promotion` : "none"),
      ...fact("Pinned", rules.pinned ? el("span", { class: "tag warn" }, "yes, nothing moves by itself") : "no"),
    ),
    el("p", { class: "row acts" }, button({ "data-focus": "rules", onclick: () => acts.rules() }, "Change the rules")),
  ]);
}

const fact = (name, value) => [el("dt", {}, name), el("dd", {}, value)];

const minority = ({ kind, version, baseline }) => (kind === "canary" ? version : baseline);
const majority = ({ kind, version, baseline }) => (kind === "canary" ? baseline : version);

// By the minute, so that what is pressed is not drawn anew every few seconds.
function left({ ends }) {
  const seconds = Math.max(0, ends - Date.now() / 1000);
  return span(seconds, seconds > 3600 ? 2 : 1);
}

function asks({ asks: why, kind, version }, acts) {
  if (!why) return null;
  const canary = kind === "canary";
  return el(
    "div",
    { class: "note warn asks", role: "group", "aria-label": "A decision is asked for" },
    el("h3", {}, `${version} waits for your decision`),
    el("p", {}, why),
    canary &&
      el(
        "p",
        { class: "row" },
        button({ "data-focus": "asked promote", class: "primary", onclick: () => acts.promote(version) }, "Promote it"),
        button({ "data-focus": "asked abort", class: "danger", onclick: () => acts.abort({ kind, version, baseline: "the champion" }) }, "Abort it"),
      ),
  );
}

function arms(trial) {
  const canary = trial.kind === "canary";
  const bar = el("div", { class: "split", "aria-hidden": "true" }, el("i"), el("i"));
  bar.lastChild.style.width = `${Math.max(1, 100 * trial.share)}%`;
  return [
    el(
      "div",
      { class: "arms" },
      arm(majority(trial), "champion", 1 - trial.share),
      arm(minority(trial), canary ? "canary" : "before", trial.share),
    ),
    bar,
  ];
}

const ROLES = { champion: ["tag good", "champion"], canary: ["tag canary", "canary"], before: ["tag", "the one before, watched against"] };

function arm(version, role, part) {
  const [kind, words] = ROLES[role];
  return el(
    "div",
    {},
    el("p", { class: "row" }, el("span", { class: "figure" }, version), el("span", { class: kind }, words)),
    el("p", { class: "soft small" }, `${traffic(part)} of the traffic`),
  );
}

function alone(champion) {
  return [
    el("div", { class: "arms" }, arm(champion, "champion", 1)),
    el("div", { class: "split", "aria-hidden": "true" }, el("i")),
  ];
}

function facts({ trial, rules, left: time }) {
  const ends = trial.ends * 1000 > Date.now();
  const then = trial.kind === "canary" ? UNDECIDED[rules.undecided] : "the watch is over";
  return el(
    "p",
    { class: "soft small" },
    trial.kind === "canary" ? "On canary" : "Watched after its promotion",
    ` since ${moment(trial.started)}. `,
    ends ? [el("strong", {}, `${time} left`), trial.asks ? "." : `, then ${then}.`] : "Its time is up.",
    rules.pinned && " Pinned: nothing moves by itself.",
  );
}

function idle(rules) {
  const next = {
    ask_first: "What the gate accepts waits here for an operator.",
    at_once: "What the gate accepts is promoted at once.",
  };
  const says = rules.pinned ? "Pinned: what the gate accepts waits." : (next[rules.mode] ?? `What the gate accepts next goes on canary with ${traffic(rules.share)} of the traffic.`);
  return el("p", { class: "soft small" }, `Nothing is on trial. ${says}`);
}

function buttons({ champion, previous, trial, rules }, acts) {
  const canary = trial?.kind === "canary";
  const back = trial?.kind === "watch" ? trial.baseline : previous;
  return el(
    "p",
    { class: "row acts" },
    canary && !trial.asks && button({ "data-focus": "promote", onclick: () => acts.promote(trial.version) }, `Promote ${trial.version}`),
    trial && !(canary && trial.asks) && button({ "data-focus": "abort", class: canary ? "danger" : "", onclick: () => acts.abort(trial) }, canary ? "Abort" : "End the watch"),
    trial && button({ "data-focus": "share", onclick: () => acts.share(trial) }, "Change the share"),
    back && back !== champion && button({ "data-focus": "back", class: "danger", onclick: () => acts.rollBack(back) }, `Roll back to ${back}`),
    button({ "data-focus": "pin", "aria-pressed": String(rules.pinned), onclick: () => acts.pin(!rules.pinned) }, rules.pinned ? "Pinned" : "Pin"),
  );
}
