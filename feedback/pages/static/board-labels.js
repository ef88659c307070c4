// The newest labels, those with a comment or all of them: each leads down to its conversation, and figures lead to
// those that they count. What people wrote goes in as text.

import { get } from "./api.js";
import { button, el, find, set, timed, today } from "./dom.js";
import { openPair, openReply, verdict } from "./board-dialog.js";

const PAGE = 30;
const MOST_PAGES = 10; // asked for at a press, where pages have nothing of the selection

export class LabelList {
  // `filters`: what is selected; they keep in the address what is listed of it. `again`: looks at what is selected
  // by now.
  constructor(panel, filters, again) {
    this.filters = filters;
    this.again = again;
    this.panel = panel;
    this.parent = find("#comments", panel);
    this.older = find("#older-labels", panel);
    this.form = find("form", panel);
    // Comments are not looked through for a reason.
    this.form.addEventListener("change", () => {
      this.#look(this.only.version ? { version: this.only.version } : {});
      this.again();
    });
    find("#widen", panel).addEventListener("click", () => {
      this.#look({});
      this.again();
      this.#enter();
    });
    this.older.addEventListener("click", () => this.#more());
    this.items = new Map(); // what a row says → its element
    const { kept } = filters;
    if (kept) this.form.which.value = kept.list;
    this.#only(kept?.only ?? {});
    this.#begin([], null);
  }

  // Before something else is looked at.
  clear() {
    this.#look({});
  }

  // Goes there, and lists those of a `version`, or with a `reason`, alone; until the filters change.
  narrow(only) {
    this.form.which.value = "labels";
    this.#look(only);
    this.again();
    this.#enter();
    this.panel.scrollIntoView();
  }

  // The first page of what is selected.
  first(options) {
    return get(this.#path(), options);
  }

  // What was loaded below the first page stays there, unless more came than a page holds.
  show({ data, next }) {
    const joint = this.longer ? this.rows.findIndex((row) => same(row, data.at(-1))) : -1;
    if (joint < 0) this.#begin(data, next);
    else this.rows = [...data, ...without(data, this.rows.slice(joint + 1))];
    this.#draw();
  }

  #look(only) {
    this.#only(only);
    this.filters.keep(this.#words, only);
    this.#begin([], null);
  }

  #only(only) {
    this.only = only;
    const { version, reason } = only;
    const says = version ? [`Only those of ${version}`] : reason ? ["Only those with the reason ", el("bdi", {}, reason)] : [];
    find("#only", this.panel).replaceChildren(...says);
    find(".narrowed", this.panel).hidden = says.length === 0;
  }

  #enter() {
    find(".all", this.panel).focus({ preventScroll: true });
  }

  #begin(rows, next) {
    this.rows = rows;
    this.next = next;
    this.longer = false; // than a page
    this.run = {}; // what is loaded goes on from this beginning
  }

  async #more() {
    const { run } = this;
    this.longer = true;
    set(this.older, { disabled: true });
    try {
      for (let page = 0, found = []; page < MOST_PAGES && found.length === 0 && this.next !== null; page++) {
        const { data, next } = await get(this.#path(this.next));
        if (run !== this.run) return;
        found = without(this.rows, data);
        this.rows = [...this.rows, ...found];
        this.next = next;
      }
      this.#draw();
    } catch (error) {
      this.older.textContent = `Older ${this.#words}: ${error.message}`;
    } finally {
      set(this.older, { disabled: false });
    }
  }

  get #words() {
    return this.form.which.value;
  }

  #path(after = null) {
    const query = new URLSearchParams(this.filters.query());
    const { version, reason } = this.only;
    if (version) query.set("versions", version);
    if (reason) query.set("reason", reason);
    if (after !== null) query.set("after", after);
    return `/v1/stats/${this.#words}?limit=${PAGE}&${query}`;
  }

  #draw() {
    this.older.hidden = this.next === null;
    this.older.textContent = `Older ${this.#words}`;
    if (this.rows.length > 0) this.#arrange(this.#list());
    else {
      const says = this.next === null ? `No ${this.#words} in this selection.` : "None of this selection among the newest.";
      this.parent.replaceChildren(el("p", { class: "nothing" }, says));
    }
  }

  #list() {
    if (!find("ol", this.parent)) this.parent.replaceChildren(el("ol"));
    return find("ol", this.parent);
  }

  // Only what has changed is made anew, so that a list that is being read keeps its place and its focus.
  #arrange(list) {
    const rows = new Map(this.rows.map((row) => [today() + JSON.stringify(row), row])); // moments are said by the day
    for (const [says, item] of this.items) {
      if (rows.has(says)) continue;
      item.remove();
      this.items.delete(says);
    }
    let place = list.firstElementChild;
    for (const [says, row] of rows) {
      const item = this.items.get(says) ?? made(row);
      this.items.set(says, item);
      if (item === place) place = place.nextElementSibling;
      else list.insertBefore(item, place);
    }
  }
}

// The name of a figure, as the way to the labels that it counts: `only` of a version, or with a reason.
export const leading = (only, name, lead, kind = "leading") =>
  button({ class: kind, title: "Show its labels", "data-focus": Object.entries(only).flat().join(" "), onclick: () => lead(only) }, name);

const nameOf = (row) => `${row.kind} ${row.completion_id ?? row.pair_id} ${row.rater}`;
const same = (row, other) => other !== undefined && nameOf(row) === nameOf(other) && row.created === other.created;

// Those of some rows that others do not say already: a changed mind stands above, and no more below.
function without(others, rows) {
  const known = new Set(others.map(nameOf));
  return rows.filter((row) => !known.has(nameOf(row)));
}

function made(label) {
  const rating = label.kind === "rating";
  const versions = rating ? [label.policy] : [...new Set([label.policies.a, label.policies.b])];
  const open = rating ? () => openReply(label.completion_id) : () => openPair(label.pair_id);
  const facts = [
    verdict(label),
    ...versions.map((version) => el("span", { class: "tag" }, version)),
    label.tag && el("span", { class: "tag accent" }, label.tag),
    timed(label.created),
  ];
  const reasons = label.reasons.map((reason) => el("span", { class: "tag" }, reason));
  const what = rating ? " the conversation" : " the pair";
  if (!label.comment) return el("li", { class: "bare" }, el("div", { class: "row" }, facts, reasons, button({ onclick: open }, "Open", el("span", { class: "unseen" }, what))));
  const down = button({ onclick: open }, `Open${what}`);
  return el("li", {}, el("div", { class: "row" }, facts), el("p", { class: "said", dir: "auto" }, label.comment), el("div", { class: "row" }, reasons, down));
}
