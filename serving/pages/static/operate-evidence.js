// What raters and guards have said of a trial: the lead with its interval, evidence for and against, both arms.

import { el, moment, timed } from "./dom.js";
import { count, share } from "./board-words.js";
import { draw, svg } from "./operate-draw.js";
import { evidence, number, points } from "./operate-words.js";

const OUTCOMES = { successful: "good", failed: "bad", inconclusive: "warn", running: "" };

export function showEvidence(parent, { release: { trial, decides } }) {
  const { looked, ...found } = trial?.evidence ?? {};
  draw(parent, [trial && [trial.version, trial.baseline], found, looked && moment(looked)], () => trial && evidenceOf(trial, decides));
}

function evidenceOf(trial, decides) {
  const found = trial.evidence;
  if (!found) return el("p", { class: "empty" }, "Nothing was measured yet. The control worker looks every few seconds.");
  return el(
    "div",
    { class: "evidence" },
    el(
      "p",
      { class: "verdict" },
      el("span", { class: `tag ${OUTCOMES[found.outcome]}` }, found.outcome),
      ` ${found.reason} `,
      el("span", { class: "soft" }, "Looked at ", timed(found.looked), "."),
    ),
    el("div", { class: "halves" }, lead(found), weighed(found, decides.raters)),
    arms(trial, found),
    guards(trial, found.guards, decides.guards),
  );
}

function lead({ lead: known, interval, raters, probability }) {
  const likely = el("p", { class: "soft small likely" }, `${chance(probability)} likely that its approval is higher; shown, never decided on`);
  if (!known) {
    return panel("Lead", el("p", { class: "soft small" }, `Too few raters have spoken to tell: ${count(raters)}.`), likely);
  }
  const widest = Math.max(0.1, ...interval.map(Math.abs), Math.abs(known.lead));
  const reach = Math.ceil(widest * 20) / 20; // to whole five points
  const at = (value) => `${(50 + (50 * value) / reach).toFixed(2)}%`;
  const low = interval[0];
  const side = low > 0 ? "good" : interval[1] < 0 ? "bad" : "even";
  const picture = svg(
    "svg",
    { class: `lead ${side}`, "aria-hidden": "true" },
    svg("line", { class: "axis", x1: "0", x2: "100%", y1: "24", y2: "24" }),
    svg("line", { class: "zero", x1: "50%", x2: "50%", y1: "4", y2: "44" }),
    svg("line", { class: "interval", x1: at(low), x2: at(interval[1]), y1: "24", y2: "24" }),
    svg("circle", { class: "middle", cx: at(known.lead), cy: "24", r: "6" }),
  );
  return panel(
    "Lead",
    el("p", { class: "figure" }, points(known.lead), el("span", { class: "unit" }, " points")),
    el("p", { class: "soft small" }, `surely between ${points(interval[0])} and ${points(interval[1])}; ${count(raters)} raters`),
    picture,
    el("p", { class: "scale", "aria-hidden": "true" }, el("span", {}, points(-reach)), el("span", {}, "worse  0  better"), el("span", {}, points(reach))),
    likely,
  );
}

// Never as if it were sure.
function chance(probability) {
  if (probability > 0.99) return `over ${share(0.99)}`;
  return probability < 0.01 ? `under ${share(0.01)}` : share(probability);
}

function weighed({ better, worse }, enough) {
  return panel(
    "Evidence",
    el("p", { class: "soft small" }, `An e-value for each: at ${evidence(enough)} it is decided, however often one looks.`),
    bar("better", better, enough, "good"),
    bar("worse", worse, enough, "bad"),
  );
}

// As a logarithm, since evidence multiplies; below 1 there is none.
function bar(name, value, enough, kind) {
  const fill = el("i", { class: kind });
  fill.style.width = `${100 * Math.min(1, Math.max(0, Math.log(value) / Math.log(enough)))}%`;
  const said = `${evidence(value)} of ${evidence(enough)}`;
  const meter = {
    class: "gauge",
    role: "meter",
    "aria-label": `Evidence that it is ${name}`,
    "aria-valuemin": 0,
    "aria-valuemax": enough,
    "aria-valuenow": Math.min(value, enough),
    "aria-valuetext": said,
  };
  return el(
    "div",
    { class: "weight" },
    el("div", { class: "spread small" }, el("span", {}, name), el("span", { class: "numbers soft" }, said)),
    el("div", meter, fill),
  );
}

function arms({ version, baseline }, { challenger, champion, pairs }) {
  const row = (name, [up, down], rest) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      [count(up), count(down), share(up + down ? up / (up + down) : null), ...rest].map((text) => el("td", { class: "number" }, text)),
    );
  const [wins, losses, ties] = pairs;
  return table(
    "What raters said",
    ["", "thumbs up", "down", "up", "pairs won", "tied"],
    row(version, challenger, [count(wins), count(ties)]),
    row(baseline, champion, [count(losses), count(ties)]),
  );
}

// How each guard's figures are written, and what its tolerance means.
const percent = (value) => share(value, 1);
const more = (tolerance) => `${share(tolerance)} more`;
const GUARDS = {
  "broken replies": [percent, (tolerance) => `${number(100 * tolerance, 0)} points more`],
  refusals: [percent, (tolerance) => `${number(100 * tolerance, 0)} points more`],
  "time to first token": [(value) => `${number(value)} s`, more],
  "longer replies": [(value) => `${number(value, 0)} tokens`, more],
  "shorter replies": [(value) => `${number(value, 0)} tokens`, (tolerance) => `${share(1 - 1 / (1 + tolerance))} less`],
};

function guards({ version, baseline }, all, enough) {
  const rows = all.map((guard) => {
    const [figure, borne] = GUARDS[guard.name] ?? [(value) => number(value), (value) => number(value)];
    const state = guard.tripped ? el("span", { class: "tag bad" }, "tripped") : el("span", { class: "tag" }, "quiet");
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, guard.name),
      [figure(guard.challenger), figure(guard.champion), borne(guard.tolerance), `${evidence(guard.evidence)} of ${evidence(enough)}`].map(
        (text) => el("td", { class: "number" }, text),
      ),
      el("td", {}, state),
    );
  });
  return table("Guards", ["", version, baseline, "borne", "evidence", "state"], ...rows);
}

const panel = (title, ...content) => el("div", {}, el("h3", {}, title), ...content);

function table(title, columns, ...rows) {
  const heads = columns.map((name, place) =>
    name ? el("th", { scope: "col", class: place === columns.length - 1 && name === "state" ? null : "number" }, name) : el("td"),
  );
  return el(
    "div",
    {},
    el("h3", {}, title),
    el(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
      el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows)),
    ),
  );
}
