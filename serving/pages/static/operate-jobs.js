// Jobs, the newest first: what each does and has done, live; its stages and its log where one looks closer.

import { get } from "./api.js";
import { button, el, set, timed } from "./dom.js";
import { openDialog } from "./operate-dialog.js";
import { draw } from "./operate-draw.js";
import { facts, gateFacts, plots, raw, rewardFacts } from "./operate-facts.js";
import { Log } from "./operate-log.js";
import { span } from "./operate-words.js";

const STATES = { done: "good", failed: "bad", cancelled: "warn", skipped: "warn", running: "accent", queued: "" };
const OLDER = 20;
const LEARNS = "Updates start by themselves as labels come; or start one.";
const PAUSED = "Learning is paused, so none starts by itself; resume it, or start one.";
const active = ({ state }) => state === "queued" || state === "running";

export class JobList {
  constructor(parent, older, acts) {
    this.parent = parent;
    this.older = older;
    this.acts = acts;
    this.rows = new Map(); // id → Row
    this.last = null; // id of the oldest that is shown
    older.addEventListener("click", () => this.more());
  }

  show({ jobs: { data, has_more }, status: { learning } }) {
    if (data.length === 0) {
      draw(this.parent, learning.paused, (paused) => el("p", { class: "empty" }, `No job has run yet. ${paused ? PAUSED : LEARNS}`));
      return;
    }
    // More were made than one page holds, so some in between are not known: begin again.
    if (!data.some(({ id }) => this.rows.has(id))) {
      this.rows.clear();
      this.parent.replaceChildren();
      this.last = data.at(-1).id;
      this.older.hidden = !has_more;
    }
    data.toReversed().forEach((job) => this.#put(job, (element) => this.parent.prepend(element)));
    const shown = new Set(data.map(({ id }) => id));
    for (const row of this.rows.values()) if (active(row.job) && !shown.has(row.job.id)) row.look();
  }

  async more() {
    set(this.older, { disabled: true });
    try {
      const { data, has_more } = await get(`/v1/jobs?limit=${OLDER}&after=${encodeURIComponent(this.last)}`);
      data.forEach((job) => this.#put(job, (element) => this.parent.append(element)));
      this.last = data.at(-1)?.id ?? this.last;
      this.older.hidden = !has_more;
      this.older.textContent = "Older jobs";
    } catch (error) {
      this.older.textContent = `Older jobs: ${error.message}`;
    } finally {
      set(this.older, { disabled: false });
    }
  }

  #put(job, place) {
    let row = this.rows.get(job.id);
    if (!row) {
      row = new Row(job, this.acts);
      this.rows.set(job.id, row);
      place(row.element);
    }
    row.show(job);
  }
}

class Row {
  constructor(job, acts) {
    this.head = el("div", { class: "job-head" });
    this.bar = el("progress", { max: "1", "aria-label": `Progress of ${job.id}` });
    this.says = el("div", { class: "job-says" });
    this.stages = el("div");
    this.log = new Log(job.id);
    this.cancel = button({ class: "danger", "data-focus": `cancel ${job.id}`, onclick: () => acts.cancel(this.job) }, "Cancel", el("span", { class: "unseen" }, ` ${job.id}`));
    this.details = el("details", {}, el("summary", {}, "Stages and log"), el("p", { class: "soft" }, el("code", {}, job.id)), this.stages, this.log.element);
    this.details.addEventListener("toggle", () => this.log.watch(this.details.open, this.job));
    this.element = el("article", { class: "job", "aria-label": job.id }, this.head, this.bar, el("div", { class: "spread job-middle" }, this.says, this.cancel), this.details);
  }

  // One that is not among the newest any more.
  async look() {
    try {
      this.show(await get(`/v1/jobs/${encodeURIComponent(this.job.id)}`));
    } catch {
      // The next look may go better.
    }
  }

  show(job) {
    this.job = job;
    draw(this.head, [job, took(job)], () => head(job));
    set(this.bar, { value: job.progress });
    this.bar.hidden = !active(job);
    this.cancel.hidden = !active(job) || job.cancel_requested;
    draw(this.says, job, () => says(job));
    draw(this.stages, job.stages, (stages) => stagesOf(job.id, stages));
    this.log.follow(job);
  }
}

function head(job) {
  const what = job.params.method ? `${job.kind}, ${job.params.method}` : job.kind;
  return [
    state(job),
    el("strong", {}, what),
    el("span", { class: "soft small" }, timed(job.created), `, by ${job.by}`),
    el("span", { class: "soft small numbers took" }, took(job)),
  ];
}

// What was not better, or did not pass the gate, is done as well, but nothing, or less than was wanted, came of it.
function state(job) {
  if (rejected(job)) return el("span", { class: "tag warn" }, "done, candidate rejected");
  if (job.state === "done" && published(job).length === 0) return el("span", { class: "tag" }, "done, nothing published");
  if (job.state === "done" && wantsPolicy(job) && !job.policy) return el("span", { class: "tag" }, "done, no new policy");
  return el("span", { class: `tag ${STATES[job.state]}` }, job.cancel_requested && active(job) ? "stopping" : job.state);
}

const wantsPolicy = ({ kind }) => kind !== "reward";
// A candidate that the gate accepts goes on from its evaluation to be published.
const rejected = (job) => job.state === "done" && wantsPolicy(job) && !job.policy && job.stages.at(-1)?.name === "evaluate";
const published = ({ reward, policy }) => [reward, policy].filter(Boolean);

function took({ started, finished, state }) {
  if (started === null) return state === "queued" ? "waits for a worker" : "";
  return span((finished ?? Date.now() / 1000) - started);
}

function says(job) {
  const made = published(job);
  const stage = active(job) && job.stage ? [el("strong", {}, job.stage), job.message ? `: ${job.message}` : ""] : [];
  return [
    stage.length > 0 && el("p", {}, el("span", { class: "numbers" }, `${Math.round(100 * job.progress)} % `), stage),
    made.length > 0 && el("p", {}, "Published ", el("strong", {}, made.join(", ")), "."),
    job.reason && el("p", { class: "why" }, job.reason),
    rejected(job) && el("p", {}, button({ class: "quiet opener", "data-focus": `candidate ${job.id}`, onclick: () => openStage(job.id, "evaluate") }, "What the gate measured")),
    job.attempts > 1 && el("p", { class: "soft" }, `Taken up ${job.attempts - 1} ${job.attempts === 2 ? "time" : "times"} after a worker went away.`),
  ];
}

function stagesOf(id, stages) {
  if (stages.length === 0) return el("p", { class: "soft small" }, "No stage has begun.");
  const rows = stages.map(({ name, state, seconds, message }) =>
    el(
      "tr",
      { role: "row" },
      el("th", { scope: "row", role: "rowheader" }, state === "done" ? button({ class: "quiet opener", "data-focus": `${id} ${name}`, onclick: () => openStage(id, name) }, name) : name),
      el("td", { role: "cell" }, el("span", { class: `tag ${STATES[state] ?? ""}` }, state)),
      el("td", { role: "cell", class: "number" }, `${seconds.toFixed(1)} s`),
      el("td", { role: "cell", class: "long" }, message ?? ""),
    ),
  );
  const heads = ["stage", "state", "took", "last said"].map((name) => el("th", { scope: "col", class: name === "took" ? "number" : null }, name));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": `Stages of ${id}` },
    // The roles stay where a phone shows rows as blocks, and would take them for no table any more.
    el("table", { class: "stages", role: "table" }, el("thead", {}, el("tr", {}, heads)), el("tbody", { role: "rowgroup" }, rows)),
  );
}

// What a stage measured and drew; of a candidate that was turned away, all that is known.
function openStage(id, name) {
  const path = `/v1/jobs/${encodeURIComponent(id)}/stages/${encodeURIComponent(name)}`;
  openDialog(name === "evaluate" ? "The candidate" : name, path, ({ stage, metrics, plots: drawn }) => [
    el("p", { class: "soft small" }, el("code", {}, `${id}/${stage ?? name}`)),
    ...(stage ? (FIGURES[name]?.(metrics) ?? []) : []),
    ...plots(path, drawn),
    raw(metrics) || el("p", { class: "soft" }, stage ? "It measured nothing." : "Its figures are not there any more."),
  ]);
}

const FIGURES = {
  evaluate: (metrics) => [verdict(metrics), facts(gateFacts(metrics))],
  train_reward: (metrics) => [verdict(metrics), facts(rewardFacts(metrics))],
};

function verdict({ accepted, reasons = [] }) {
  return el(
    "div",
    {},
    el("span", { class: `tag ${accepted ? "good" : "warn"}` }, accepted ? "accepted" : "rejected"),
    el("ul", {}, reasons.map((reason) => el("li", {}, reason))),
  );
}
