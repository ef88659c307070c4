// The dashboard's charts, drawn by Plotly in the theme's colours, each with its numbers as a table beside it.

import { leading } from "./board-labels.js";
import { colour, el, find, moment, replace, set } from "./dom.js";
import { between, count, many, NONE, share, sure } from "./board-words.js";

let drawn = null;

// `lead` shows the labels that a figure counts.
export function drawCharts(figures, lead) {
  drawn = [figures, lead];
  approval(figures, lead);
  volume(figures);
  matrix(figures);
  strengths(figures);
  rewards(figures);
}

// In other colours, after the theme has changed.
export function redraw() {
  if (drawn) drawCharts(...drawn);
}

function approval({ policies }, lead) {
  const rows = policies.filter((row) => row.completions || row.up + row.down);
  const bars = (name, value, interval, fill) => ({
    type: "bar",
    name,
    x: rows.map((row) => row.policy),
    y: rows.map((row) => row[value]),
    error_y: errors(rows, value, interval),
    marker: { color: colour(fill) },
    hovertemplate: "%{x}: %{y:.1%}<extra></extra>",
  });
  draw("approval", {
    empty: rows.length === 0,
    traces: [bars("approval", "approval", "approval_interval", "--series-1"), bars("response rate", "response_rate", "response_interval", "--series-6")],
    layout: { barmode: "group", bargap: 0.35, yaxis: { tickformat: ".0%", range: [0, 1] }, xaxis: { type: "category" } },
    says: rows.map((row) => `${row.policy}: approval ${share(row.approval)}, response rate ${share(row.response_rate)}`).join("; "),
    leads: rows.slice(-MOST_LEADS).reverse().map((row) => leading({ version: row.policy }, row.policy, lead, null)),
    head: ["Version", "Approval", "95 %", "Thumbs", "Response", "95 %", "Replies"],
    rows: rows.map((row) => [leading({ version: row.policy }, row.policy, lead), share(row.approval, 1), between(row.approval_interval), count(row.up + row.down), share(row.response_rate, 1), between(row.response_interval), count(row.completions)]),
  });
}

const MOST_LEADS = 12; // versions, the newest

const LABELS = [
  ["up", "thumbs up", "--series-1"],
  ["down", "thumbs down", "--series-2"],
  ["comparisons", "choices", "--series-3"],
];

const LATE = 0.15; // of the time drawn: a mark in the last of it has its name on the left, where it fits
const FEW = 8; // labels: of fewer a chart would have ticks between whole numbers

function volume({ volume: rows, unit, marks }) {
  const times = rows.map((row) => onAxis(row.start, unit));
  const labels = (row) => row.up + row.down + row.comparisons;
  const top = Math.max(1, ...rows.map(labels));
  const [first, end] = rows.length ? [rows[0].start, rows.at(-1).start + LENGTHS[unit]] : [0, 0];
  const late = end - LATE * (end - first);
  draw("volume", {
    empty: rows.every((row) => labels(row) === 0),
    traces: LABELS.map(([key, name, fill]) => ({
      type: "bar",
      name,
      x: times,
      y: rows.map((row) => row[key]),
      marker: { color: colour(fill), line: { width: 0 } },
      hovertemplate: `%{x}<br>%{y} ${name}<extra></extra>`,
    })),
    layout: {
      barmode: "stack",
      bargap: unit === "hour" ? 0 : 0.15,
      xaxis: { type: "date", range: rows.length ? [times[0], onAxis(end, unit)] : undefined },
      yaxis: { rangemode: "tozero", range: [0, top * 1.28], dtick: top < FEW ? 1 : undefined },
      shapes: marks.map((mark) => ({
        type: "line",
        xref: "x",
        yref: "paper",
        x0: onAxis(mark.time, unit),
        x1: onAxis(mark.time, unit),
        y0: 0,
        y1: 1,
        line: { color: colour(mark.kind === "rollback" ? "--bad" : "--ink-soft"), width: 1.5, dash: "dash" },
      })),
      annotations: marks.map((mark, index) => ({
        x: onAxis(mark.time, unit),
        y: 1 - 0.08 * (index % 3),
        xref: "x",
        yref: "paper",
        xanchor: mark.time > late ? "right" : "left",
        yanchor: "top",
        showarrow: false,
        text: ` ${mark.kind === "rollback" ? "↩ " : ""}${plain(mark.to).replace("policy-", "")} `,
        font: { size: 11, color: colour(mark.kind === "rollback" ? "--bad" : "--ink-soft") },
        bgcolor: colour("--surface"),
      })),
    },
    says: `${many(rows.reduce((sum, row) => sum + labels(row), 0), "label")} by ${unit}; ${marks.map((mark) => `${mark.kind} of ${mark.to} on ${moment(mark.time)}`).join(", ") || "the champion did not change"}`,
    head: [unit === "hour" ? "Hour" : "Day (UTC)", "Thumbs up", "Thumbs down", "Choices", "Replies"],
    rows: rows.map((row) => [words(row.start, unit), row.up, row.down, row.comparisons, row.completions].map((cell) => (typeof cell === "number" ? count(cell) : cell))).reverse(),
  });
}

// Why there is nothing where versions are compared.
const uncompared = ({ comparisons }) =>
  comparisons
    ? `Two versions have to be compared first: ${comparisons === 1 ? "the choice here was" : `all ${count(comparisons)} choices here were`} of one version against itself.`
    : "No choices in the selection. Two versions have to be compared first.";

function matrix({ matrix: { versions, cells }, totals }) {
  const at = (policy, against) => cells.find((cell) => cell.policy === policy && cell.against === against);
  const grid = (value) => versions.map((policy) => versions.map((against) => value(at(policy, against))));
  const games = (cell) => cell.wins + cell.losses + cell.ties;
  draw("matrix", {
    empty: versions.length === 0,
    nothing: uncompared(totals),
    traces: [
      {
        type: "heatmap",
        x: versions,
        y: versions,
        z: grid((cell) => cell?.win_rate ?? null),
        text: grid((cell) => (cell ? `${share(cell.win_rate)}<br>of ${count(games(cell))}` : "")),
        texttemplate: "%{text}",
        textfont: { color: colour("--ink"), size: versions.length > 6 ? 10 : 12 },
        zmin: 0.2,
        zmax: 0.8,
        colorscale: [
          [0, tint("--losses")],
          [0.5, tint("--even")],
          [1, tint("--wins")],
        ],
        showscale: false,
        xgap: 2,
        ygap: 2,
        hoverongaps: false,
        customdata: grid((cell) => surely(cell?.win_interval)),
        hovertemplate: "%{y} against %{x}: %{z:.0%}%{customdata}<extra></extra>",
      },
    ],
    layout: { xaxis: { type: "category", side: "bottom", showgrid: false }, yaxis: { type: "category", autorange: "reversed", showgrid: false } },
    says: cells.filter((cell) => cell.win_rate > 0.5).map((cell) => `${cell.policy} beats ${cell.against} in ${share(cell.win_rate)}${surely(cell.win_interval)}`).join("; "),
    head: ["Version", "Against", "Wins", "Losses", "Ties", "Both bad", "Win rate", "95 %"],
    rows: cells.map((cell) => [cell.policy, cell.against, count(cell.wins), count(cell.losses), count(cell.ties), count(cell.both_bad), share(cell.win_rate, 1), between(cell.win_interval)]),
  });
}

const surely = (interval) => (interval ? ` (${sure(interval)})` : "");

function strengths({ strengths: found, totals }) {
  const rows = [...found].reverse();
  draw("strengths", {
    empty: rows.length === 0,
    nothing: uncompared(totals),
    traces: [
      {
        type: "scatter",
        mode: "markers",
        x: rows.map((row) => row.value),
        y: rows.map((row) => row.policy),
        error_x: errors(rows, "value", "interval"),
        marker: { color: colour("--series-1"), size: 11 },
        hovertemplate: "%{y}: %{x:.2f}<extra></extra>",
      },
    ],
    layout: { showlegend: false, xaxis: { zeroline: true, zerolinecolor: colour("--line-strong"), zerolinewidth: 1.5 }, yaxis: { type: "category", range: [-0.5, rows.length - 0.5] } },
    says: found.map((row) => `${row.policy}: ${row.value.toFixed(2)}`).join("; "),
    head: ["Version", "Strength", "95 %", "Games"],
    rows: found.map((row) => [row.policy, row.value.toFixed(2), `${row.interval[0].toFixed(2)} to ${row.interval[1].toFixed(2)}`, count(row.games)]),
  });
}

function rewards({ rewards: { data } }) {
  const rows = data.filter((row) => row.pair_accuracy !== null);
  draw("rewards", {
    empty: rows.length === 0,
    nothing: "No reward model has been measured on held-out pairs yet.",
    traces: [
      {
        type: "scatter",
        mode: "lines+markers",
        x: rows.map((row) => row.reward),
        y: rows.map((row) => row.pair_accuracy),
        error_y: errors(rows, "pair_accuracy", "pair_accuracy_interval"),
        line: { color: colour("--line-strong"), width: 1 },
        marker: { color: colour("--series-1"), size: 11 },
        hovertemplate: "%{x}: %{y:.1%}<extra></extra>",
      },
    ],
    layout: {
      showlegend: false,
      xaxis: { type: "category" },
      yaxis: { tickformat: ".0%", range: [Math.min(0.4, ...rows.map((row) => row.pair_accuracy_interval?.[0] ?? 1)), 1] },
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0.5, y1: 0.5, line: { color: colour("--line-strong"), width: 1.5, dash: "dot" } }],
    },
    says: rows.map((row) => `${row.reward}: ${share(row.pair_accuracy)}`).join("; "),
    head: ["Reward model", "Pairs ordered as people did", "95 %", "Pairs", "Thumbs' AUROC"],
    rows: rows.map((row) => [row.reward, share(row.pair_accuracy, 1), between(row.pair_accuracy_interval), count(row.pairs), row.thumb_auroc?.toFixed(2) ?? NONE]),
  });
}

// One figure: the chart, what it says to who does not see it, and the table.
function draw(id, { empty, nothing = "Nothing of this in the selection.", traces, layout, says, leads, head, rows }) {
  const panel = find(`#${id}`);
  const chart = find(".chart", panel);
  chart.hidden = empty;
  set(find(".nothing", panel), { hidden: !empty }).textContent = nothing;
  const ways = find(".leads", panel);
  if (ways) ways.hidden = empty;
  find("details", panel).hidden = empty;
  if (empty) return;
  window.Plotly.react(chart, traces, dressed(layout), { displayModeBar: false, responsive: true, showTips: false });
  set(chart, { "aria-label": `${find("h2", panel).textContent}. ${says}` });
  if (ways) replace(ways, "Labels of:", ...leads);
  replace(find("details .scroll", panel), table(head, rows));
}

function table(head, rows) {
  const kind = (index) => (index ? "number" : null);
  return el(
    "table",
    {},
    el("thead", {}, el("tr", {}, head.map((name, index) => el("th", { scope: "col", class: kind(index) }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell, index) => el(index ? "td" : "th", { class: kind(index), scope: index ? null : "row" }, cell))))),
  );
}

function dressed(layout) {
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), zerolinecolor: colour("--line"), automargin: true, fixedrange: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink-soft") },
    margin: { l: 8, r: 8, t: 8, b: 8, pad: 4 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", traceorder: "normal" },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    dragmode: false,
    ...layout,
    xaxis: { ...axis, showgrid: false, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  };
}

function errors(rows, value, interval) {
  return {
    type: "data",
    symmetric: false,
    array: rows.map((row) => (row[interval] ? row[interval][1] - row[value] : 0)),
    arrayminus: rows.map((row) => (row[interval] ? row[value] - row[interval][0] : 0)),
    color: colour("--ink"),
    thickness: 1.5,
    width: 4,
  };
}

const LENGTHS = { hour: 3600, day: 86400 };

// A moment as Plotly takes it: hours as clocks have them here, days as the counters have them, by UTC.
function onAxis(seconds, unit) {
  const shift = unit === "hour" ? new Date(seconds * 1000).getTimezoneOffset() * 60 : 0;
  return new Date((seconds - shift) * 1000).toISOString().slice(0, 19);
}

function words(seconds, unit) {
  return onAxis(seconds, unit).slice(0, unit === "hour" ? 16 : 10).replace("T", " ");
}

// Custom properties of the board itself, not of the root.
const tint = (property) => colour(property, find(".board"));

// Plotly reads a few tags out of text; names of versions are ours, but an angle bracket shall stay one.
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
