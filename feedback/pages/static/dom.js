// Building elements. Text goes in as text nodes only: nothing that people wrote is ever parsed as HTML here.

// el("button", {class: "quiet", type: "button", onclick: go, "aria-label": "Stop"}, "Stop", otherElement)
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  set(element, attributes);
  element.append(...children.flat().filter((child) => (child ?? false) !== false));
  return element;
}

export const button = (attributes, ...children) =>
  el("button", { type: "button", ...attributes }, ...children);

// Attributes by name; `on…` as listeners; true as an empty attribute; null, undefined, false leave it out.
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  return element;
}

export const find = (selector, within = document) => within.querySelector(selector);
export const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

// The colour that a custom property such as "--accent" has in the theme that is on, as rgb(…): for charts.
export function colour(property) {
  const probe = el("span", { hidden: true });
  document.body.append(probe);
  probe.style.color = `var(${property})`;
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

// A moment as people say it: "14:05" today, "3 May, 14:05" before.
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}
