// The end of a job's log, asked for again while it is open and the job runs.

import { get } from "./api.js";
import { el } from "./dom.js";
import { draw } from "./operate-draw.js";

const LINES = 200;
const EVERY = 2000; // milliseconds

export class Log {
  constructor(id) {
    this.id = id;
    this.open = false;
    this.asked = 0;
    this.title = el("p", { class: "soft small log-title" });
    this.text = el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": `Log of ${id}`, hidden: true });
    this.element = el("div", {}, this.title, this.text);
  }

  watch(open, job) {
    this.open = open;
    this.over = false;
    if (open) this.look(job);
  }

  // Called at each look at the job: a running one has more to say, one that just ended has its last words.
  follow(job) {
    if (this.open && !this.over && Date.now() - this.asked >= EVERY / 2) this.look(job);
  }

  async look(job) {
    this.asked = Date.now();
    const last = job.finished !== null;
    try {
      const found = await get(`/v1/jobs/${encodeURIComponent(this.id)}/log?lines=${LINES}`);
      this.show(found);
      this.over = last;
    } catch (error) {
      this.title.textContent = error.message;
      this.text.hidden = true;
      // A job that runs may have its folder only in a moment, and what else failed may go better the next time.
      this.over = error.status === 404 && last;
    }
  }

  show({ stage, lines, more }) {
    this.title.textContent = stage ? `${stage}/log.txt${more ? `, the last ${lines.length} lines` : ""}` : "No stage has printed anything yet.";
    this.text.hidden = !stage;
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 8;
    draw(this.text, [stage, lines], () => lines.join("\n") || "(nothing yet)");
    if (atEnd) this.text.scrollTop = this.text.scrollHeight;
  }
}
