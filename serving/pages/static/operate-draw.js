// Drawing what was asked for again and again: anew only where it changed, and the focus stays where it was.

import { replace, set, today } from "./dom.js";

const shown = new WeakMap();

// What `build` makes of `data`, in place of what `parent` shows; nothing happens where the data is the same.
export function draw(parent, data, build) {
  const key = today() + JSON.stringify(data); // moments are said by the day
  if (shown.get(parent) === key) return;
  shown.set(parent, key);
  replace(parent, ...[build(data)].flat(2).filter(Boolean));
}

// An element of a picture; its text goes in as text nodes only, as in el().
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(element, attributes);
  element.append(...children.flat().filter((child) => (child ?? false) !== false));
  return element;
}
