// What an operator can do to versions, trials and rules: each asked for with its reason.

import { post } from "./api.js";
import { ask, fieldsOf } from "./operate-ask.js";
import { percent, span, traffic } from "./operate-words.js";

const of = (version) => `/v1/policies/${encodeURIComponent(version)}`;
const AT_ONCE = "Replies that are being written end with the version that they began with.";

// `feed` is looked at again after each; `tell(sentence)` says that it is done.
export class Acts {
  constructor(feed, tell) {
    this.feed = feed;
    this.tell = tell;
  }

  promote(version) {
    const { release, status } = this.feed.known;
    const { rules, trial } = release;
    const others = traffic(rules.share);
    this.#ask({
      title: `Promote ${version}?`,
      says: [
        `${version} answers from the next request on, instead of ${status.champion}. ${AT_ONCE}`,
        rules.watch > 0 &&
          `For ${span(rules.watch)} ${others} of the users keep ${status.champion}` +
            (rules.pinned ? "." : "; harm rolls back by itself."),
        trial?.kind === "canary" && trial.version !== version && `${trial.version} leaves its canary and waits again.`,
      ],
      action: `Promote ${version}`,
      send: ({ reason }) => post(`${of(version)}/promote`, { reason }),
      told: `${version} is the champion now.`,
    });
  }

  rollBack(version) {
    const { champion } = this.feed.known.status;
    this.#ask({
      title: `Roll back to ${version}?`,
      says: [
        `${version} answers from the next request on, instead of ${champion}. ${AT_ONCE}`,
        `${champion} is kept, and can be promoted again.`,
      ],
      action: `Roll back to ${version}`,
      danger: true,
      send: ({ reason }) => post("/v1/rollback", { reason, to: version }),
      told: `Rolled back: ${version} is the champion now.`,
    });
  }

  canary(version) {
    const { rules, trial } = this.feed.known.release;
    this.#ask({
      title: `Put ${version} on canary?`,
      says: [
        "It answers a share of the users, always the same ones, until raters find it better or worse.",
        trial?.kind === "watch" && `The watch of ${trial.version} ends with that.`,
      ],
      fields: fieldsOf("#share-fields", { share: percent(rules.share) }),
      action: "Begin the canary",
      send: ({ reason, fields }) => post(`${of(version)}/canary`, { reason, share: fields.share / 100 }),
      told: `${version} is on canary.`,
    });
  }

  abort({ kind, version, baseline }) {
    const canary = kind === "canary";
    this.#ask({
      title: canary ? `Abort the canary of ${version}?` : `End the watch of ${version}?`,
      says: [
        canary
          ? `${version} gets no traffic any more; ${baseline} answers everybody.`
          : `${version} answers everybody; ${baseline} keeps no share, and nothing rolls back by itself.`,
      ],
      action: canary ? "Abort the canary" : "End the watch",
      danger: true,
      send: ({ reason }) => post("/v1/release/abort", { reason }),
      told: canary ? `The canary of ${version} is over.` : `The watch of ${version} is over.`,
    });
  }

  drop(version) {
    this.#ask({
      title: `Drop ${version}?`,
      says: [`${version} waits no longer for a canary. It is kept, and can still be promoted.`],
      action: `Drop ${version}`,
      danger: true,
      send: ({ reason }) => post(`${of(version)}/drop`, { reason }),
      told: `${version} does not wait any more.`,
    });
  }

  share({ kind, version, baseline, share: now }) {
    const minority = kind === "canary" ? version : baseline;
    this.#ask({
      title: `Change the share of ${minority}`,
      says: [
        "Who has it already keeps it where the share grows. Later canaries get the same share.",
        "Evidence begins anew: with another share, later ratings would weigh more on one side.",
      ],
      fields: fieldsOf("#share-fields", { share: percent(now) }),
      action: "Change the share",
      send: ({ reason, fields }) => post("/v1/release", { reason, share: fields.share / 100 }),
      told: "The share is changed.",
    });
  }

  pin(pinned) {
    const { champion } = this.feed.known.status;
    this.#ask({
      title: pinned ? `Pin ${champion}?` : `Unpin ${champion}?`,
      says: [
        pinned
          ? "Nothing moves by itself until it is unpinned: no promotion, no rollback, no new canary. Operators still can."
          : "Release control decides by its rules again.",
      ],
      action: pinned ? `Pin ${champion}` : `Unpin ${champion}`,
      send: ({ reason }) => post("/v1/release", { reason, pinned }),
      told: pinned ? `${champion} is pinned.` : `${champion} is not pinned any more.`,
    });
  }

  rules() {
    const before = this.feed.known.release.rules; // what is not touched here stays as others set it meanwhile
    const { mode, share: part, canary, undecided, watch } = before;
    this.#ask({
      title: "Change the rules",
      says: [],
      fields: fieldsOf("#rules-fields", {
        mode,
        undecided,
        share: percent(part),
        canary: hours(canary),
        watch: hours(watch),
      }),
      action: "Change the rules",
      send: ({ reason, fields }) => post("/v1/release", { reason, ...changes(before, fields) }),
      told: "The rules are changed.",
    });
  }

  pause(paused) {
    this.#ask({
      title: paused ? "Pause learning?" : "Resume learning?",
      says: [
        paused
          ? "No update starts by itself. A job that runs goes on, and operators can start one."
          : "Updates start by themselves again as labels come.",
      ],
      action: paused ? "Pause learning" : "Resume learning",
      send: ({ reason }) => post("/v1/learning", { paused, reason }),
      told: paused ? "Learning is paused." : "Learning is on.",
    });
  }

  start() {
    this.#ask({
      title: "Start a job",
      says: ["A cycle trains the reward model, then the policy. One job runs at a time; others wait their turn."],
      fields: fieldsOf("#job-fields", { kind: "cycle" }),
      action: "Start",
      optional: true,
      send: ({ reason, fields: { kind, method } }) => post("/v1/jobs", { kind, reason, method: kind === "reward" ? null : method || null }),
      told: "The job is started.",
    });
  }

  cancel({ id, kind }) {
    this.#ask({
      title: `Cancel ${brief(id)}?`,
      says: [`The ${kind} job stops at once. The champion and the labels that it would have learnt from stay as they are.`],
      action: "Cancel the job",
      leave: "Keep it",
      danger: true,
      send: ({ reason }) => post(`/v1/jobs/${encodeURIComponent(id)}/cancel`, { reason }),
      told: `${brief(id)} is cancelled.`,
    });
  }

  #ask({ told: sentence, ...question }) {
    ask({
      ...question,
      done: () => {
        this.tell(sentence);
        this.feed.renew();
      },
    });
  }
}

// Only what differs is sent: the audit log then says what was changed.
function changes(rules, { mode, undecided, share: part, canary, watch }) {
  const wanted = { mode, undecided, share: part / 100, canary: canary * 3600, watch: watch * 3600 };
  const near = (a, b) => a === b || (typeof a === "number" && Math.abs(a - b) < 1e-6 * Math.max(1, Math.abs(b)));
  return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => !near(value, rules[name])));
}

// As much of a job's id as tells it from others, and fits a line.
const brief = (id) => id.slice(0, "job-".length + 8);
const rounded = (value) => Number(value.toPrecision(6));
const hours = (seconds) => rounded(seconds / 3600);
