// The few pictures that buttons have: strokes on a field of 24 by 24. Labels say the same.

const SHAPES = {
  up: ["M7 11v9H4v-9h3l4-7c1.6 0 2.4 1 2 2.6L12.4 10H18a2 2 0 0 1 2 2.4l-1.3 6a2 2 0 0 1-2 1.6H7"],
  down: ["M17 13V4h3v9h-3l-4 7c-1.6 0-2.4-1-2-2.6l.6-3.4H6a2 2 0 0 1-2-2.4l1.3-6a2 2 0 0 1 2-1.6H17"],
  again: ["M19 12a7 7 0 1 1-2.2-5.1L19 9", "M19 4v5h-5"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  done: ["M5 12.5l4.5 4.5L19 7.5"],
  pencil: ["M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19 4 20z"],
  bin: ["M5 7h14", "M9 7V4h6v3", "M7 7l1 13h8l1-13"],
  list: ["M4 6h16", "M4 12h16", "M4 18h10"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  back: ["M14 6l-6 6 6 6"],
  on: ["M10 6l6 6-6 6"],
};
const SVG = "http://www.w3.org/2000/svg";

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({ viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  for (const d of SHAPES[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}
