// The filters of the dashboard, kept in the page's address so that a view can be sent to somebody.

import { el, find, findAll } from "./dom.js";

const DAY = 86400;
const RANGES = { "1d": 1, "7d": 7, "30d": 30, "90d": 90 };
const USUAL = "30d";
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
    form.source.value = stored.get("source") ?? "";
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => this.changed(changed));
    find("#clear").addEventListener("click", () => this.clear(changed));
    this.arrange();
    this.valid();
  }

  changed(then) {
    this.chosen = new Set(findAll("input:checked", find("#versions")).map((box) => box.value));
    this.tag = this.form.tag.value;
    this.remember();
    if (this.valid()) then();
  }

  // An end alone is no stretch of time.
  valid() {
    const { range, from, to } = this.form;
    const headless = range.value === "custom" && to.value && !from.value;
    from.setCustomValidity(headless ? "Say from when, too." : "");
    return from.reportValidity();
  }

  clear(then) {
    this.form.range.value = USUAL;
    this.form.source.value = "";
    this.form.tag.value = "";
    for (const box of findAll("input", find("#versions"))) box.checked = false;
    this.changed(then);
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
    const query = address.toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    this.arrange();
  }

  arrange() {
    const custom = this.form.range.value === "custom";
    for (const field of findAll(".custom", this.form)) field.hidden = !custom;
    find("#clear").hidden = location.search === "";
  }

  // As the server takes them.
  query() {
    const query = new URLSearchParams();
    const { range, from, to, source } = this.form;
    const back = RANGES[range.value];
    if (back) query.set("since", Math.floor(Date.now() / 1000 - back * DAY));
    if (range.value === "custom" && from.value) {
      const end = to.value ? here(to.value, 1) : Date.now() / 1000;
      const at = end - here(from.value, 0) > BY_HOURS * 3600 ? inUtc : here;
      query.set("since", at(from.value, 0));
      if (to.value) query.set("until", at(to.value, 1));
    }
    if (this.chosen.size) query.set("versions", [...this.chosen].join(","));
    if (this.tag) query.set("tag", this.tag);
    if (source.value) query.set("source", source.value);
    return query.toString();
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
