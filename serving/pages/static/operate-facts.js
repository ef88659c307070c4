// What is known of a version, or of a candidate that became none: figures of the gate, of a reward model, plots.

import { el } from "./dom.js";
import { count, NONE, share } from "./board-words.js";
import { number, surely } from "./operate-words.js";

const PLOTS = {
  "reward.png": "Reward of members and judge against the root of the KL, along the lineage",
  "training.png": "What each step of the optimiser reported",
  "reliability.png": "Predicted probability against the observed share, on held-out labels",
};
const PROBES = { format: "Format probes passed", refusal: "Refused, as it should", harmless: "Harmless ones answered" };

// A list of terms, without those that are not known.
export function facts(values) {
  const told = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== NONE);
  return el("dl", { class: "facts" }, told.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

// What the gate measured of a policy beside the one it came from.
export function gateFacts(metrics) {
  const rise = metrics.reference_nll_rise;
  return {
    "Win rate over its parent": metrics.win_rate === undefined ? null : `${surely(metrics.win_rate, metrics.win_rate_interval)}, by the held-out judge`,
    "At like length": metrics.length_matched_win_rate === undefined ? null : surely(metrics.length_matched_win_rate, metrics.length_matched_interval),
    "By the members": metrics.members_win_rate === undefined ? null : surely(metrics.members_win_rate, metrics.members_win_rate_interval),
    "By the member that likes it least": metrics.doubter_win_rate === undefined || metrics.doubter_win_rate === metrics.members_win_rate ? null : surely(metrics.doubter_win_rate, metrics.doubter_win_rate_interval),
    "KL to the base": metrics.kl_base === undefined ? null : `${number(metrics.kl_base, 3)} nats a token`,
    "KL to its parent": metrics.kl_champion === undefined ? null : `${number(metrics.kl_champion, 3)} nats a token`,
    "Reference texts": rise === undefined ? null : `${share(Math.abs(rise), 1)} ${rise > 0 ? "less" : "more"} likely than to the base`,
    ...probes(metrics.probes ?? {}),
    "Words a reply": sides(metrics.words, (words) => number(words, 0)),
    "Cut at the limit": sides(metrics.cut, share),
    ...rules(metrics.rules ?? {}),
  };
}

export function rewardFacts({ holdout = {}, judge = {}, agreement = {} }) {
  return {
    "Pairs ordered as people did": holdout?.pairs ? `${surely(holdout.pair_accuracy, holdout.pair_accuracy_interval)} of ${count(holdout.pairs)}` : null,
    "Thumb AUROC": holdout?.thumbs ? `${number(holdout.thumb_auroc)} of ${count(holdout.thumbs)} thumbs` : null,
    "Calibration error": holdout?.ece === undefined ? null : number(holdout.ece),
    "The judge alone": judge?.pair_accuracy === undefined ? null : surely(judge.pair_accuracy, judge.pair_accuracy_interval),
    "Members that agree": agreement?.same_order === undefined ? null : share(agreement.same_order),
  };
}

function probes(found) {
  const told = (probe) => `${sides(probe, share)}, of ${count(probe.replies)} replies`;
  return Object.fromEntries(Object.entries(found).map(([name, probe]) => [PROBES[name] ?? `Probes: ${name}`, told(probe)]));
}

// The candidate's, and its parent's beside it.
const sides = (both, write) => (both ? `${write(both.candidate)}; its parent ${write(both.champion)}` : null);

// What the AI judge said under each principle of the replies that it learnt from, beside the reward model.
function rules(scores) {
  const told = ({ judged, mean, correlation }) =>
    `${share(mean)} of verdicts won on ${count(judged)} replies; r with the preference score: ${number(correlation)}`;
  return Object.fromEntries(Object.entries(scores).map(([name, score]) => [`Rule ${name}`, told(score)]));
}

// `path`: of what they were drawn with.
export function plots(path, names) {
  return names.map((name) => {
    const says = PLOTS[name] ?? name;
    return el(
      "figure",
      { class: "plot" },
      el("img", { src: `${path}/plots/${encodeURIComponent(name)}`, alt: says, loading: "lazy" }),
      el("figcaption", { class: "hint" }, `${says}.`),
    );
  });
}

export function raw(metrics) {
  if (Object.keys(metrics).length === 0) return "";
  return el("details", {}, el("summary", {}, "All its metrics"), el("pre", { tabindex: "0", role: "region", "aria-label": "Metrics" }, JSON.stringify(metrics, null, 1)));
}
