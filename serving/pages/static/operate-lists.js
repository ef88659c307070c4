// Engines with their adapters, learning, and the audit log.

import { get } from "./api.js";
import { button, el, set, timed, today } from "./dom.js";
import { count, many } from "./board-words.js";
import { draw } from "./operate-draw.js";
import { ago, change } from "./operate-words.js";

export function showLearning(parent, { status: { learning, jobs }, counts, audit }, acts) {
  const fresh = counts.labels - learning.labels;
  const running = jobs.some(({ state }) => state === "running");
  const paused = learning.paused ? pausing(audit.data) : null;
  draw(parent, [learning.paused, learning.updated, ago(learning.updated), fresh, running, paused], () => [
    el(
      "p",
      { class: "row" },
      el("span", { class: `tag ${learning.paused ? "warn" : "good"}` }, learning.paused ? "paused" : "on"),
      el("span", { class: "soft small" }, updates(learning.updated, running)),
    ),
    paused && el("p", { class: "soft small paused" }, "Paused ", timed(paused.when), ` by ${paused.who}${paused.why ? `: ${paused.why}` : "."}`),
    el("p", {}, el("span", { class: "figure" }, count(fresh)), el("span", { class: "unit" }, ` ${fresh === 1 ? "label" : "labels"} ${learning.updated ? "since then" : "so far"}`)),
    el("p", { class: "row acts" }, button({ "data-focus": "pause", onclick: () => acts.pause(!learning.paused) }, learning.paused ? "Resume learning" : "Pause learning")),
  ]);
}

// Who paused it, when and why; null where that is no longer among the newest of the audit log.
const pausing = (actions) => actions.find(({ what, after }) => what === "learning.pause" && after?.paused) ?? null;

function updates(updated, running) {
  if (!updated) return running ? "the first update is running" : "no update yet";
  return `last update ${ago(updated)}${running ? ", another is running" : ""}`;
}

export function showEngines(parent, { status: { engines, champion } }) {
  draw(parent, [engines, champion], () => {
    if (engines.length === 0) return el("p", { class: "note bad" }, "No engine is configured, so nobody can be answered. Set THUMBWHEEL_ENGINES, or start by deploy/up.");
    return engines.map((engine) =>
      el(
        "article",
        { class: "engine", "aria-label": engine.url },
        el(
          "p",
          { class: "spread" },
          el("code", {}, engine.url),
          el("span", { class: `tag ${engine.ready ? "good" : "bad"}` }, engine.ready ? "ready" : "not ready"),
        ),
        engine.error && el("p", { class: "note bad" }, engine.error),
        el(
          "ul",
          { class: "adapters", "aria-label": "Loaded versions" },
          engine.loaded.map((version) => el("li", { class: `tag ${version === champion ? "good" : ""}` }, version)),
        ),
        Object.entries(engine.refused).map(([version, why]) => el("p", { class: "note bad" }, el("strong", {}, `Refused ${version}: `), why)),
        el("p", { class: "soft small" }, `${many(engine.inflight, "request")} of this gateway in flight`),
      ),
    );
  });
}

const OLDER = 50;

export class AuditLog {
  constructor(parent, older) {
    this.parent = parent;
    this.older = older;
    this.rows = el("tbody", { role: "rowgroup" });
    this.known = new Set();
    this.last = null; // id of the oldest that is shown
    older.addEventListener("click", () => this.more());
  }

  show({ data, has_more }) {
    if (this.day !== today()) this.known.clear(); // times are said as of yesterday
    this.day = today();
    if (this.known.size === 0) {
      const heads = ["when", "who", "what", "what it changed", "why"].map((name) => el("th", { scope: "col" }, name));
      this.parent.replaceChildren(el("table", { class: "audit", role: "table" }, el("thead", {}, el("tr", {}, heads)), this.rows));
    }
    const fresh = data.filter(({ id }) => !this.known.has(id));
    // More came than one page holds, so some in between are not known: begin again.
    if (this.known.size === 0 || fresh.length === data.length) {
      this.rows.replaceChildren();
      this.known.clear();
      this.last = data.at(-1)?.id ?? null;
      this.older.hidden = !has_more;
    }
    this.rows.prepend(...fresh.map((action) => this.#row(action)));
  }

  async more() {
    set(this.older, { disabled: true });
    try {
      const { data, has_more } = await get(`/v1/audit?limit=${OLDER}&after=${encodeURIComponent(this.last)}`);
      this.rows.append(...data.map((action) => this.#row(action)));
      this.last = data.at(-1)?.id ?? this.last;
      this.older.hidden = !has_more;
      this.older.textContent = "Older entries";
    } catch (error) {
      this.older.textContent = `Older entries: ${error.message}`;
    } finally {
      set(this.older, { disabled: false });
    }
  }

  #row({ id, when, who, what, before, after, why }) {
    this.known.add(id);
    const cells = [timed(when), who, el("code", {}, what), change(before, after), why ?? ""];
    // The roles stay where a phone shows rows as blocks, and would take them for no table any more.
    return el("tr", { role: "row" }, cells.map((cell) => el("td", { role: "cell" }, cell)));
  }
}
