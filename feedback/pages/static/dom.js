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

// New children in place of the old; the focus stays on the one with the same `data-focus`.
export function replace(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  parent.replaceChildren(...children);
  if (focused) find(`[data-focus="${CSS.escape(focused)}"]`, parent)?.focus({ preventScroll: true });
}

// The colour that a custom property such as "--accent" has within an element in the theme that is on, as rgb(…):
// for charts.
export function colour(property, within = document.body) {
  const probe = el("span", { hidden: true });
  within.append(probe);
  probe.style.color = `var(${property})`;
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

// What `moment` says changes with the day.
export const today = () => new Date().toDateString();

// A moment as people say it: "14:05" today, "3 May, 14:05" before, with the year if it is another one.
export function moment(seconds) {
  const date = new Date(seconds * 1000);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === today()) return time;
  const year = date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
  return `${date.toLocaleDateString([], { day: "numeric", month: "short", ...year })}, ${time}`;
}

// The same as an element, which tells the seconds and the time zone to who points at it.
export function timed(seconds) {
  const date = new Date(seconds * 1000);
  const title = date.toLocaleString([], { dateStyle: "medium", timeStyle: "long" });
  return el("time", { datetime: date.toISOString(), title }, moment(seconds));
}
