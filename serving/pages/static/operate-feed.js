// What the page knows of the service: asked for every two seconds while somebody looks, seldom while nobody does.

import { get } from "./api.js";

const SEEN = 2000; // milliseconds between two looks
const HIDDEN = 30_000;
const SELDOM = 10_000; // for what changes slowly, or only when the rest does
const NEWEST = { jobs: 10, actions: 20, versions: 200 };

export class Feed {
  // `show(known)` is called after each look, `fail(error)` after one that came to nothing.
  constructor(show, fail) {
    this.known = {};
    this.show = show;
    this.fail = fail;
    this.marks = "";
    this.seldom = 0;
    document.addEventListener("visibilitychange", () => this.look());
  }

  // Look at once: at the start, and after whatever changed something.
  async look() {
    clearTimeout(this.timer);
    this.asking?.abort();
    const mine = (this.asking = new AbortController());
    try {
      await this.ask({ signal: mine.signal });
      this.show(this.known);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fail(error);
      // The session has ended; the page says so, and keeps what it shows.
      if (error.status === 401) return;
    }
    this.timer = setTimeout(() => this.look(), document.hidden ? HIDDEN : SEEN);
  }

  async ask(options) {
    const [status, release, jobs] = await Promise.all([
      get("/v1/status", options),
      get("/v1/release", options),
      get(`/v1/jobs?limit=${NEWEST.jobs}`, options),
    ]);
    Object.assign(this.known, { status, release, jobs });
    const marks = JSON.stringify([aliases(status), status.learning.paused, release.rules, release.trial?.started, jobs.data.map(published)]);
    if (marks === this.marks && Date.now() - this.seldom < SELDOM) return;
    const [policies, rewards, counts, audit] = await Promise.all([
      get(`/v1/policies?limit=${NEWEST.versions}`, options),
      get(`/v1/rewards?limit=${NEWEST.versions}`, options),
      get("/v1/stats/policies", options),
      get(`/v1/audit?limit=${NEWEST.actions}`, options),
    ]);
    Object.assign(this.known, { policies, rewards, counts, audit });
    this.marks = marks;
    this.seldom = Date.now();
  }

  // Let the next look be at everything.
  renew() {
    this.seldom = 0;
    return this.look();
  }
}

const aliases = ({ champion, challenger, previous, reward }) => [champion, challenger, previous, reward];
const published = ({ id, state, policy, reward }) => [id, state, policy, reward];
