// The filters of the dashboard, kept in the page's address so that a view can be sent to somebody.

import { el, find, findAll } from "./dom.js";

const DAY = 86400;
const RANGES = { "1d": 1, "7d": 7, "30d": 30, "90d": 90 };
const USUAL = "30d";
const NAMES = ["range", "from", "to", "versions", "tag", "source"]; // as the address has them
const LISTS = ["labels", "comments"]; // of one of which alone, beside the filters: labels=version:policy-v1
const BY_HOURS = 7 * 24 + 1; // hours; the server counts a longer time by UTC days

export class Filters {
  constructor(form, changed) {
    this.form = form;
    const stored = new URLSearchParams(location.search);
    this.chosen = new Set((stored.get("versions") ?? "").split(",").filter(Boolean));
    form.range.value = stored.get("range") ?? USUAL;
    if (!form.range.value) form.range.value = USUAL;
    form.from.value = stored.get("from") ?? "";
    form.to.value = stored.get("to") ?? "";
    this.tag = stored.get("tag") ?? "";
    this.none = !NAMES.some((name) => stored.has(name));
    form.source.value = stored.get("source") ?? "";
    this.more = {};
    for (const list of LISTS) if (stored.get(list)) this.more = { [list]: stored.get(list) };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => this.changed(changed));
    find("#clear").addEventListener("click", () => this.clear(changed));
    this.offer({ known: { versions: [], tags: [] } }); // what was chosen, until it is known what else there is
    this.arrange();
    this.#check();
  }

  changed(then) {
    this.chosen = new Set(findAll("input:checked", find("#versions")).map((box) => box.value));
    this.tag = this.form.tag.value;
    this.remember();
    this.#check();
    then();
  }

  // What is wrong about the time: then there is nothing to ask for. Empty: nothing is.
  get wrong() {
    const { range, from, to } = this.form;
    return range.value === "custom" ? from.validationMessage || to.validationMessage : "";
  }

  // An end alone is no stretch of time, nor is one before its beginning; and there is no feedback from tomorrow.
  #check() {
    const { range, from, to } = this.form;
    const custom = range.value === "custom";
    const headless = custom && to.value && !from.value;
    const reversed = custom && to.value && from.value && to.value < from.value;
    const ahead = custom && from.value && !reversed && this.#stretch().since > Date.now() / 1000;
    from.setCustomValidity(headless ? "Say from when, too." : ahead ? "It lies ahead: there is no feedback yet." : "");
    to.setCustomValidity(reversed ? "It ends before it begins." : "");
    find("#wrong").textContent = this.wrong;
    if (custom) from.reportValidity(); // not of the end: while its year is typed it is before everything
  }

  clear(then) {
    this.form.range.value = USUAL;
    this.form.source.value = "";
    this.form.tag.value = "";
    for (const box of findAll("input", find("#versions"))) box.checked = false;
    this.changed(then);
  }

  // Which of the labels are listed, beside the filters: `list` narrowed to `only`, or all of them.
  keep(list, only) {
    const [entry] = Object.entries(only);
    this.more = entry ? { [list]: entry.join(":") } : {};
    this.remember();
  }

  // The same, as it was kept: which list, and what of it; none.
  get kept() {
    const [[list, said] = []] = Object.entries(this.more);
    const [, kind, name] = said?.match(/^(version|reason):(.+)$/s) ?? [];
    // Comments are not looked through for a reason.
    return kind && !(list === "comments" && kind === "reason") ? { list, only: { [kind]: name } } : null;
  }

  // As the address has it: what is as usual is left out.
  remember() {
    const { range, from, to, source } = this.form;
    const address = new URLSearchParams();
    if (range.value !== USUAL) address.set("range", range.value);
    if (range.value === "custom" && from.value) address.set("from", from.value);
    if (range.value === "custom" && to.value) address.set("to", to.value);
    if (this.chosen.size) address.set("versions", [...this.chosen].join(","));
    if (this.tag) address.set("tag", this.tag);
    if (source.value) address.set("source", source.value);
    this.none = address.size === 0;
    for (const [list, only] of Object.entries(this.more)) address.set(list, only);
    const query = address.toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    this.arrange();
  }

  arrange() {
    const custom = this.form.range.value === "custom";
    for (const field of findAll(".custom", this.form)) field.hidden = !custom;
    find("#clear").hidden = this.none;
  }

  // As the server takes them.
  query() {
    const query = new URLSearchParams();
    const { range, from, to, source } = this.form;
    const back = RANGES[range.value];
    if (back) query.set("since", Math.floor(Date.now() / 1000 - back * DAY));
    if (range.value === "custom" && from.value) {
      const { since, until } = this.#stretch();
      query.set("since", since);
      if (until !== null) query.set("until", until);
    }
    if (this.chosen.size) query.set("versions", [...this.chosen].join(","));
    if (this.tag) query.set("tag", this.tag);
    if (source.value) query.set("source", source.value);
    return query.toString();
  }

  #stretch() {
    const { from, to } = this.form;
    const end = to.value ? here(to.value, 1) : Date.now() / 1000;
    const at = end - here(from.value, 0) > BY_HOURS * 3600 ? inUtc : here;
    return { since: at(from.value, 0), until: to.value ? at(to.value, 1) : null };
  }

  // What there is to choose from, as the server knows it by now; a choice that it does not know stays.
  offer({ known }) {
    const versions = [...new Set([...known.versions, ...this.chosen])];
    renew(find("#versions .chips"), versions, (name) => {
      const box = el("input", { type: "checkbox", value: name, checked: this.chosen.has(name) });
      return el("label", { class: "chip" }, box, name);
    });
    const tags = [...new Set([...known.tags, ...(this.tag ? [this.tag] : [])])];
    renew(this.form.tag, ["", ...tags], (tag) => el("option", { value: tag }, tag || "All tags"));
    this.form.tag.value = this.tag;
    find("#versions").hidden = versions.length === 0;
  }
}

// Put new children in only where the names have changed, so that nothing loses its focus.
function renew(parent, names, make) {
  const key = JSON.stringify(names);
  if (parent.dataset.names === key) return;
  parent.dataset.names = key;
  parent.replaceChildren(...names.map(make));
}

// The beginning of a day of the calendar and of a number of days after it, here or in UTC, as Unix seconds.
const parts = (day) => day.split("-").map(Number);
const here = (day, after) => {
  const [year, month, date] = parts(day);
  return Math.floor(new Date(year, month - 1, date + after).getTime() / 1000);
};
const inUtc = (day, after) => {
  const [year, month, date] = parts(day);
  return Date.UTC(year, month - 1, date + after) / 1000;
};
