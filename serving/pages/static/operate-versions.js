// Versions as tables, and one of them in full, with its plots and what can be done with it.

import { get } from "./api.js";
import { button, el, find, moment } from "./dom.js";
import { count, NONE, share } from "./board-words.js";
import { draw } from "./operate-draw.js";
import { nodesOf, namesOf } from "./operate-lineage.js";
import { number, surely } from "./operate-words.js";

const PLOTS = {
  "reward.png": "Reward of members and judge against the root of the KL, along the lineage",
  "training.png": "What each step of the optimiser reported",
  "reliability.png": "Predicted probability against the observed share, on held-out labels",
};

export function showPolicies(parent, known, open) {
  draw(parent, nodesOf(known), (nodes) =>
    table(
      ["version", "is", "from", "win rate over it", "KL to base", "thumbs up", "replies", "reward", "made"],
      nodes.toReversed().map((node) => [
        opener(node.id, open),
        tags(node.names),
        node.parent ?? NONE,
        surely(node.winRate, node.interval),
        number(node.kl),
        share(node.approval),
        count(node.replies),
        node.reward ?? NONE,
        moment(node.created),
      ]),
    ),
  );
}

export function showRewards(parent, { rewards }, open) {
  draw(parent, rewards, ({ data, live }) => {
    if (data.length === 0) return el("p", { class: "soft small" }, "None yet: the first job that has labels enough trains one.");
    return table(
      ["version", "is", "from", "pairs ordered as people did", "thumb AUROC", "calibration error", "made"],
      data.map(({ id, parent: from, created, metrics: { holdout = {} } }) => [
        opener(id, open),
        tags(id === live ? ["live"] : []),
        from ?? NONE,
        surely(holdout.pair_accuracy, holdout.pair_accuracy_interval),
        number(holdout.thumb_auroc),
        number(holdout.ece),
        moment(created),
      ]),
    );
  });
}

const opener = (id, open) => button({ class: "quiet opener", "data-focus": `open ${id}`, onclick: () => open(id) }, id);
const KINDS = { champion: "tag good", live: "tag good", canary: "tag canary", waiting: "tag warn" };
const tags = (names) => names.map((name) => el("span", { class: KINDS[name.split(" ")[0]] ?? "tag" }, name));

function table(columns, rows) {
  const body = rows.map(([first, ...cells]) =>
    el("tr", {}, el("th", { scope: "row" }, first), cells.map((cell) => el("td", {}, cell))),
  );
  return el("table", {}, el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, body));
}

const dialog = find("#version");
find("#version-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

let opened = 0; // how often a version was opened: a late answer is not for the next one

// Show one version in full; `acts` are done from there.
export async function openVersion(id, known, acts) {
  const kind = id.startsWith("reward-") ? "rewards" : "policies";
  const body = find("#version-body");
  find("#version-title").textContent = id;
  body.replaceChildren(el("p", { class: "soft" }, "Loading …"));
  dialog.showModal();
  const mine = ++opened;
  try {
    const version = await get(`/v1/${kind}/${encodeURIComponent(id)}`);
    if (mine !== opened) return;
    const shown = kind === "policies" ? [...policy(version, known, acts)] : [reward(version)];
    body.replaceChildren(...shown, ...plots(version, kind), raw(version.metrics));
  } catch (error) {
    if (mine === opened) body.replaceChildren(el("p", { class: "note bad" }, error.message));
  }
}

function policy(version, known, acts) {
  const { metrics } = version;
  const names = namesOf(version.id, known.status, known.release);
  const rise = metrics.reference_nll_rise;
  const said = nodesOf(known).find(({ id }) => id === version.id); // none where it was made just now
  return [
    el("p", { class: "row" }, tags(names)),
    facts({
      "Came from": version.parent,
      Made: moment(version.created),
      Thumbs: said && (said.thumbs ? `${share(said.approval)} of ${count(said.thumbs)} up` : "none yet"),
      Replies: said && count(said.replies),
      Job: version.job && el("code", {}, version.job),
      "Reward model": version.reward,
      "Win rate over its parent": metrics.win_rate === undefined ? null : `${surely(metrics.win_rate, metrics.win_rate_interval)}, by the held-out judge`,
      "At like length": metrics.length_matched_win_rate === undefined ? null : surely(metrics.length_matched_win_rate, metrics.length_matched_interval),
      "By the members": metrics.members_win_rate === undefined ? null : surely(metrics.members_win_rate, metrics.members_win_rate_interval),
      "KL to the base": metrics.kl_base === undefined ? null : `${number(metrics.kl_base, 3)} nats a token`,
      "KL to its parent": metrics.kl_champion === undefined ? null : `${number(metrics.kl_champion, 3)} nats a token`,
      "Reference texts": rise === undefined ? null : `${share(Math.abs(rise), 1)} ${rise > 0 ? "less" : "more"} likely than to the base`,
      ...rules(metrics.rules ?? {}),
    }),
    el("p", { class: "small" }, el("a", { href: `/dashboard?versions=${encodeURIComponent(version.id)}` }, "What people said of it, on the dashboard")),
    choices(version.id, known, acts),
  ];
}

// What the AI judge said under each principle of the replies that it learnt from, beside the reward model.
function rules(scores) {
  const told = ({ judged, mean, correlation }) =>
    `${share(mean)} of verdicts won on ${count(judged)} replies; r with the preference score: ${number(correlation)}`;
  return Object.fromEntries(Object.entries(scores).map(([name, score]) => [`Rule ${name}`, told(score)]));
}

function reward({ parent, created, job, metrics: { holdout = {}, judge = {}, agreement = {} } }) {
  return facts({
    "Came from": parent,
    Made: moment(created),
    Job: job && el("code", {}, job),
    "Pairs ordered as people did": holdout.pairs ? `${surely(holdout.pair_accuracy, holdout.pair_accuracy_interval)} of ${count(holdout.pairs)}` : null,
    "Thumb AUROC": holdout.thumbs ? `${number(holdout.thumb_auroc)} of ${count(holdout.thumbs)} thumbs` : null,
    "Calibration error": holdout.ece === undefined ? null : number(holdout.ece),
    "The judge alone": judge?.pair_accuracy === undefined ? null : surely(judge.pair_accuracy, judge.pair_accuracy_interval),
    "Members that agree": agreement?.same_order === undefined ? null : share(agreement.same_order),
  });
}

function facts(values) {
  const told = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== NONE);
  return el("dl", { class: "facts" }, told.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function choices(id, { status, release: { trial }, policies }, acts) {
  const canary = trial?.kind === "canary";
  const choose = (work) => () => {
    dialog.close();
    work();
  };
  if (id === status.champion) return el("p", { class: "soft small" }, "It is the champion.");
  const older = id === status.previous || descends(status.champion, id, policies.data);
  return el(
    "p",
    { class: "row acts" },
    older
      ? button({ class: "danger", onclick: choose(() => acts.rollBack(id)) }, `Roll back to ${id}`)
      : button({ class: "primary", onclick: choose(() => acts.promote(id)) }, `Promote ${id}`),
    !canary && button({ onclick: choose(() => acts.canary(id)) }, "Put it on canary"),
    canary && trial.version === id && button({ class: "danger", onclick: choose(() => acts.abort(trial)) }, "Abort the canary"),
  );
}

// Whether a version came from another, over however many.
function descends(version, ancestor, versions) {
  const parents = new Map(versions.map(({ id, parent }) => [id, parent]));
  for (let id = parents.get(version); id; id = parents.get(id)) if (id === ancestor) return true;
  return false;
}

function plots({ id, plots: names }, kind) {
  return names.map((name) => {
    const says = PLOTS[name] ?? name;
    return el(
      "figure",
      { class: "plot" },
      el("img", { src: `/v1/${kind}/${encodeURIComponent(id)}/plots/${name}`, alt: says, loading: "lazy" }),
      el("figcaption", { class: "hint" }, `${says}.`),
    );
  });
}

function raw(metrics) {
  if (Object.keys(metrics).length === 0) return "";
  return el("details", {}, el("summary", {}, "All its metrics"), el("pre", { tabindex: "0", role: "region", "aria-label": "Metrics" }, JSON.stringify(metrics, null, 1)));
}
