// The end of a stage's log, the newest stage's if none is chosen; asked for again while it is open and the job runs.

import { get } from "./api.js";
import { el, set } from "./dom.js";
import { draw } from "./operate-draw.js";

const LINES = 200;
const EVERY = 2000; // milliseconds

export class Log {
  constructor(id) {
    this.id = id;
    this.open = false;
    this.asked = 0;
    this.choice = el("select", { id: `log-of-${id}`, onchange: () => this.choose() });
    this.chooser = el("div", { class: "row log-choice", hidden: true }, el("label", { for: this.choice.id }, "Log of"), this.choice);
    this.title = el("p", { class: "soft small log-title" });
    this.text = el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": `Log of ${id}`, hidden: true });
    this.element = el("div", {}, this.chooser, this.title, this.text);
  }

  watch(open, job) {
    this.open = open;
    this.over = false;
    if (open) this.look(job);
  }

  // Called at each look at the job: a running one has more to say, one that just ended has its last words.
  follow(job) {
    this.job = job;
    this.#offer(job.stages.map(({ name }) => name));
    if (this.open && !this.over && Date.now() - this.asked >= EVERY / 2) this.look(job);
  }

  choose() {
    this.over = false;
    this.look(this.job);
  }

  // What was chosen stays chosen as stages come.
  #offer(names) {
    const { value } = this.choice;
    draw(this.choice, names, () => [el("option", { value: "" }, "the newest stage"), names.map((name) => el("option", { value: name }, name))]);
    if (this.choice.value !== value && names.includes(value)) this.choice.value = value;
    set(this.chooser, { hidden: names.length === 0 });
  }

  async look(job) {
    this.asked = Date.now();
    const last = job.finished !== null;
    const chosen = this.choice.value;
    const which = chosen && `&stage=${encodeURIComponent(chosen)}`;
    try {
      const found = await get(`/v1/jobs/${encodeURIComponent(this.id)}/log?lines=${LINES}${which}`);
      if (chosen !== this.choice.value) return; // a late answer is not for the next stage
      this.show(found, chosen, job);
      this.over = last;
    } catch (error) {
      if (chosen !== this.choice.value) return;
      this.title.textContent = error.message;
      this.text.hidden = true;
      // A job that runs may have its folder only in a moment, and what else failed may go better the next time.
      this.over = error.status === 404 && last;
    }
  }

  show({ stage, lines, more }, chosen, job) {
    this.title.textContent = stage ? `${stage}/log.txt${more ? `, the last ${lines.length} lines` : ""}` : without(chosen, job);
    this.text.hidden = !stage;
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 8 || stage !== this.shown;
    this.shown = stage;
    const nothing = stage && ended(stage.replace(/^\d+-/, ""), job) ? "It printed nothing." : "(nothing yet)";
    draw(this.text, [stage, lines, nothing], () => lines.join("\n") || nothing);
    if (atEnd) this.text.scrollTop = this.text.scrollHeight;
  }
}

// Whether a stage has no more to say.
function ended(name, job) {
  const state = job.stages.find((stage) => stage.name === name)?.state ?? "running";
  return job.finished !== null || state !== "running";
}

// What is said where there is no log.
function without(chosen, job) {
  if (!chosen) return job.finished === null ? "No stage has printed anything yet." : "No stage printed anything.";
  return `${chosen} ${ended(chosen, job) ? "printed nothing." : "has printed nothing yet."}`;
}
