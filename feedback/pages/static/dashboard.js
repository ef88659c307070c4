// The feedback dashboard: asks for the figures that the filters name, draws them, and asks again when it is told
// that something changed.

import { get } from "./api.js";
import { find, moment } from "./dom.js";
import { showCards } from "./board-cards.js";
import { drawCharts, redraw } from "./board-charts.js";
import { LabelList } from "./board-labels.js";
import { showRaters, showReasons } from "./board-lists.js";
import { Filters } from "./board-filters.js";

const PAUSE = 2000; // milliseconds between two looks at the most
const AGAIN = 5000; // milliseconds until what failed is tried again
const filters = new Filters(find("#filters"), select);
const labels = new LabelList(find("#newest"), filters, refresh);
let asking = null;
let last = 0;
let waiting = null;

const lead = (only) => labels.narrow(only);

function select() {
  if (!filters.wrong) labels.clear();
  refresh();
}

async function refresh() {
  asking?.abort();
  const mine = (asking = new AbortController());
  last = Date.now();
  for (const format of ["csv", "jsonl"]) find(`#download-${format}`).hidden = Boolean(filters.wrong);
  if (filters.wrong) {
    say(`Not up to date: ${filters.wrong}`, false);
    find("#loading").textContent = "No figures of such a time.";
    return;
  }
  const query = filters.query();
  for (const format of ["csv", "jsonl"]) find(`#download-${format}`).href = `/v1/stats/export?format=${format}&${query}`;
  try {
    const asked = { signal: mine.signal };
    const [figures, newest] = await Promise.all([get(`/v1/stats/dashboard?${query}`, asked), labels.first(asked)]);
    show(figures);
    labels.show(newest);
  } catch (error) {
    if (error.name === "AbortError") return;
    say(`Not up to date: ${error.message}`, false);
    find("#loading").textContent = error.message;
    if (error.status !== 401 && error.status !== 400) later(soon);
  }
}

function show(figures) {
  const empty = figures.known.sources.human + figures.known.sources.import === 0;
  find("#loading").hidden = true;
  find("#empty").hidden = !empty;
  find("#board").hidden = empty;
  find("#filters").hidden = empty;
  filters.offer(figures);
  const asked = Number(new URLSearchParams(filters.query()).get("since") ?? Infinity);
  const cut = figures.since > asked ? `; figures go back to ${moment(figures.since)}, downloads further` : "";
  say(`Live, as of ${moment(Date.now() / 1000)}${cut}`, true);
  if (empty) return;
  showCards(find("#cards"), figures);
  drawCharts(figures, lead);
  showReasons(find("#reasons"), figures.reasons, lead);
  showRaters(find("#raters"), figures.raters);
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
  if (stream) return;
  const mine = (stream = new EventSource("/v1/stats/live"));
  mine.addEventListener("change", soon);
  mine.addEventListener("error", () => {
    // The browser opens it again where it was cut off, as it is every few minutes; after an answer that is an
    // error it does not.
    if (mine.readyState === EventSource.CLOSED && stream === mine) {
      stream = null;
      soon(); // says what is wrong
      later(listen);
    } else later(() => mine === stream && mine.readyState !== EventSource.OPEN && say("Not live: the service cannot be reached", false));
  });
}

// Once more in a while, if somebody still looks.
function later(work) {
  setTimeout(() => document.hidden || work(), AGAIN);
}

function pause() {
  stream?.close();
  stream = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? pause() : listen()));
document.addEventListener("themechange", redraw);
refresh();
if (!document.hidden) listen();
