// Versions as tables, and one of them in full, with its plots and what can be done with it.

import { button, el, timed } from "./dom.js";
import { count, NONE, share } from "./board-words.js";
import { close, openDialog } from "./operate-dialog.js";
import { draw } from "./operate-draw.js";
import { facts, gateFacts, plots, raw, rewardFacts } from "./operate-facts.js";
import { nodesOf, namesOf } from "./operate-lineage.js";
import { number, surely } from "./operate-words.js";

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
        timed(node.created),
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
        timed(created),
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

// Show one version in full; `acts` are done from there.
export function openVersion(id, known, acts) {
  const path = `/v1/${id.startsWith("reward-") ? "rewards" : "policies"}/${encodeURIComponent(id)}`;
  const told = (version) => (id.startsWith("reward-") ? [reward(version)] : policy(version, known, acts));
  openDialog(id, path, (version) => [...told(version), ...plots(path, version.plots), raw(version.metrics)]);
}

function policy(version, known, acts) {
  const names = namesOf(version.id, known.status, known.release);
  const said = nodesOf(known).find(({ id }) => id === version.id); // none where it was made just now
  return [
    el("p", { class: "row" }, tags(names)),
    facts({
      "Came from": version.parent,
      Made: timed(version.created),
      Thumbs: said && (said.thumbs ? `${share(said.approval)} of ${count(said.thumbs)} up` : "none yet"),
      Replies: said && count(said.replies),
      Job: version.job && el("code", {}, version.job),
      "Reward model": version.reward,
      ...gateFacts(version.metrics),
    }),
    el("p", { class: "small" }, el("a", { href: `/dashboard?versions=${encodeURIComponent(version.id)}` }, "What people said of it, on the dashboard")),
    choices(version.id, known, acts),
  ];
}

function reward({ parent, created, job, metrics }) {
  return facts({ "Came from": parent, Made: timed(created), Job: job && el("code", {}, job), ...rewardFacts(metrics) });
}

function choices(id, { status, release: { trial }, policies }, acts) {
  const canary = trial?.kind === "canary";
  const choose = (work) => () => {
    close();
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
