// The feedback dashboard: asks for the figures that the filters name, draws them, and asks again when it is told
// that something changed.

import { get } from "./api.js";
import { find, moment } from "./dom.js";
import { showCards } from "./board-cards.js";
import { drawCharts, redraw } from "./board-charts.js";
import { showComments, showRaters, showReasons } from "./board-lists.js";
import { Filters } from "./board-filters.js";

const PAUSE = 2000; // milliseconds between two looks at the most
const filters = new Filters(find("#filters"), refresh);
let asking = null;
let last = 0;
let waiting = null;

async function refresh() {
  asking?.abort();
  const mine = (asking = new AbortController());
  last = Date.now();
  try {
    const figures = await get(`/v1/stats/dashboard?${filters.query()}`, { signal: mine.signal });
    show(figures);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(`Not up to date: ${error.message}`, false);
    find("#loading").textContent = error.message;
  }
}

function show(figures) {
  const labels = figures.known.sources.human + figures.known.sources.import;
  const empty = labels === 0;
  find("#loading").hidden = true;
  find("#empty").hidden = !empty;
  find("#board").hidden = empty;
  find("#filters").hidden = empty;
  filters.offer(figures);
  find("#download-csv").href = `/v1/stats/export?format=csv&${filters.query()}`;
  find("#download-jsonl").href = `/v1/stats/export?format=jsonl&${filters.query()}`;
  say(`Live, as of ${moment(Date.now() / 1000)}`, true);
  if (empty) return;
  showCards(find("#cards"), figures);
  drawCharts(figures);
  showReasons(find("#reasons"), figures.reasons);
  showRaters(find("#raters"), figures.raters);
  showComments(find("#comments"), figures.comments);
}

function say(text, live) {
  const status = find("#live");
  status.textContent = text;
  status.classList.toggle("on", live);
}

// Not more often than PAUSE, but never so that the last change is missed.
function soon() {
  if (waiting !== null) return;
  waiting = setTimeout(() => {
    waiting = null;
    refresh();
  }, Math.max(0, last + PAUSE - Date.now()));
}

// A page that nobody sees asks for nothing.
let stream = null;

function listen() {
  stream ??= new EventSource("/v1/stats/live");
  stream.addEventListener("change", soon);
  stream.addEventListener("error", () => say("Not live: the service cannot be reached", false));
}

function pause() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? pause() : listen()));
document.addEventListener("themechange", redraw);
refresh();
if (!document.hidden) listen();
