// Versions as a graph: each right of the one that it came from, with its names, its share and how good it is.

import { el, find } from "./dom.js";
import { share } from "./board-words.js";
import { draw, svg } from "./operate-draw.js";
import { number, surely, traffic } from "./operate-words.js";

const NODE = { width: 226, height: 84 };
const STEP = { x: NODE.width + 15, y: NODE.height + 20 };
const EDGE = 4; // room for outlines

// `open(version)` shows one.
export function showLineage(parent, known, open) {
  const nodes = nodesOf(known);
  draw(parent, nodes, () => {
    const places = placed(nodes, known.status.champion);
    const picture = graph(nodes, places, open);
    const { column } = places.get(known.status.champion) ?? { column: places.size };
    // The champion is what one looks for first; later the view stays where it was scrolled to.
    if (!find("svg", parent)) requestAnimationFrame(() => (parent.scrollLeft = column * STEP.x - (parent.clientWidth - NODE.width) / 2));
    return nodes.length > 1 ? picture : [picture, el("p", { class: "soft small" }, "Only the base model so far. The first update that the gate accepts becomes policy-v1.")];
  });
}

// Everything that the graph says of each version, oldest first.
export function nodesOf({ policies, release, counts, status }) {
  const thumbs = new Map(counts.data.map((entry) => [entry.policy, entry]));
  const known = new Set(policies.data.map(({ id }) => id));
  return policies.data.toReversed().map(({ id, parent, reward, metrics, created }) => ({
    id,
    parent: known.has(parent) ? parent : null,
    reward,
    created,
    names: namesOf(id, status, release),
    winRate: metrics.win_rate ?? null,
    interval: metrics.win_rate_interval ?? null,
    kl: metrics.kl_base ?? null,
    approval: thumbs.get(id)?.approval ?? null,
    thumbs: (thumbs.get(id)?.up ?? 0) + (thumbs.get(id)?.down ?? 0),
    replies: thumbs.get(id)?.completions ?? 0,
  }));
}

// "champion 90 %", "canary 10 %", "previous", "waiting": what a version is just now.
export function namesOf(id, status, { trial, waiting }) {
  const minority = trial && (trial.kind === "canary" ? trial.version : trial.baseline);
  const names = [];
  if (id === status.champion) names.push(trial ? `champion ${traffic(1 - trial.share)}` : "champion");
  if (id === minority) names.push(`${trial.kind === "canary" ? "canary" : "before"} ${traffic(trial.share)}`);
  else if (id === status.previous) names.push("previous");
  if (waiting.includes(id)) names.push("waiting");
  return names;
}

// {id: {column, row}}: a child goes on in its parent's row, the champion's ancestors first; others get rows below.
function placed(nodes, champion) {
  const children = new Map(nodes.map(({ id }) => [id, []]));
  const parents = new Map(nodes.map(({ id, parent }) => [id, parent]));
  for (const { id, parent } of nodes) children.get(parent)?.push(id);
  const main = new Set();
  for (let id = champion; id && !main.has(id); id = parents.get(id)) main.add(id);
  const below = (id) => children.get(id).toSorted((a, b) => main.has(b) - main.has(a));
  const length = (id) => 1 + (below(id).length ? length(below(id)[0]) : 0);
  const places = new Map();
  const taken = new Set(); // "row column"
  // Where a line of versions has room, with a gap before and behind it.
  const free = (column, row, wide) => {
    for (let at = column - 1; at <= column + wide; at++) if (taken.has(`${row} ${at}`)) return free(column, row + 1, wide);
    return row;
  };
  const put = (id, column, row) => {
    places.set(id, { column, row });
    taken.add(`${row} ${column}`);
    const [first, ...others] = below(id);
    if (first) put(first, column + 1, row);
    for (const other of others) put(other, column + 1, free(column + 1, row + 1, length(other)));
  };
  for (const { id } of nodes.filter(({ parent }) => parent === null)) put(id, 0, free(0, 0, length(id)));
  return places;
}

function graph(nodes, places, open) {
  const columns = Math.max(...[...places.values()].map(({ column }) => column)) + 1;
  const rows = Math.max(...[...places.values()].map(({ row }) => row)) + 1;
  const width = (columns - 1) * STEP.x + NODE.width + 2 * EDGE;
  const height = (rows - 1) * STEP.y + NODE.height + 2 * EDGE;
  const picture = svg(
    "svg",
    { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Lineage of policy versions" },
    nodes.map((node) => node.parent && edge(places.get(node.parent), places.get(node.id))),
    nodes.map((node) => drawn(node, places.get(node.id), open)),
  );
  const current = nodes.find(({ names }) => names.some((name) => name.startsWith("champion"))) ?? nodes.at(-1);
  const elements = new Map([...picture.querySelectorAll(".node")].map((element) => [element.dataset.focus, element]));
  elements.get(current.id).setAttribute("tabindex", "0");
  picture.addEventListener("keydown", (event) => {
    const next = neighbour(nodes, places, event.target.dataset.focus, event.key);
    if (!next) return;
    event.preventDefault();
    for (const element of elements.values()) element.setAttribute("tabindex", "-1");
    elements.get(next).setAttribute("tabindex", "0");
    elements.get(next).focus();
  });
  return picture;
}

// Where an arrow key leads: to the parent, to a child, or to what stands above or below.
function neighbour(nodes, places, id, key) {
  const { column, row } = places.get(id);
  const nearest = (candidates) =>
    candidates.toSorted((a, b) => Math.abs(places.get(a).row - row) - Math.abs(places.get(b).row - row))[0];
  const beside = (found) => nodes.map((node) => node.id).filter((other) => found(places.get(other)));
  const keys = {
    ArrowLeft: () => nodes.find((node) => node.id === id).parent,
    ArrowRight: () => nearest(nodes.filter((node) => node.parent === id).map((node) => node.id)),
    ArrowUp: () => nearest(beside((place) => place.row < row && Math.abs(place.column - column) <= 1)),
    ArrowDown: () => nearest(beside((place) => place.row > row && Math.abs(place.column - column) <= 1)),
  };
  return keys[key]?.() ?? null;
}

function edge(from, to) {
  const [x1, y1] = [EDGE + from.column * STEP.x + NODE.width, EDGE + from.row * STEP.y + NODE.height / 2];
  const [x2, y2] = [EDGE + to.column * STEP.x, EDGE + to.row * STEP.y + NODE.height / 2];
  const middle = (x1 + x2) / 2;
  return svg("path", { class: "edge", d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

function drawn(node, { column, row }, open) {
  const kind = ["champion", "canary", "before", "previous", "waiting"].find((name) => node.names.some((given) => given.startsWith(name)));
  const go = () => open(node.id);
  const win = node.winRate === null ? (node.parent === null && node.kl === null ? "the base model" : "not measured") : `wins ${surely(node.winRate, node.interval)}`;
  const kl = node.kl === null ? null : `KL ${number(node.kl)}`;
  const thumbs = node.thumbs ? `${share(node.approval)} of ${node.thumbs.toLocaleString()} thumbs up` : "no thumbs yet";
  const says = [node.id, ...node.names, win, kl, thumbs, node.parent && `from ${node.parent}`].filter(Boolean).join(", ");
  return svg(
    "g",
    {
      class: `node ${kind ?? ""}`,
      transform: `translate(${EDGE + column * STEP.x} ${EDGE + row * STEP.y})`,
      role: "button",
      tabindex: "-1",
      "aria-label": says,
      "data-focus": node.id,
      onclick: go,
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        go();
      },
    },
    svg("rect", { width: NODE.width, height: NODE.height, rx: "10" }),
    svg("text", { class: "name", x: "13", y: "26" }, node.id),
    svg("text", { class: "names", x: NODE.width - 13, y: "26" }, node.names.join(", ")),
    svg("text", { x: "13", y: "49" }, win),
    svg("text", { class: "end", x: NODE.width - 13, y: "49" }, kl ?? ""),
    svg("text", { class: "soft", x: "13", y: "69" }, thumbs),
  );
}
