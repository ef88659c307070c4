// How the operations page writes numbers, times and changes.

import { many, NONE, share } from "./board-words.js";

const UNITS = Object.entries({ day: 86400, hour: 3600, minute: 60, second: 1 });

// A length of time in its largest units: "5 days 3 hours".
export function span(seconds, most = 2) {
  let rest = Math.max(0, Math.floor(seconds));
  const told = [];
  for (const [unit, length] of UNITS) {
    const whole = Math.floor(rest / length);
    rest -= whole * length;
    if (whole) told.push(many(whole, unit));
    else if (told.length) break;
    if (told.length === most) break;
  }
  return told.join(" ") || many(0, "second");
}

// A hundred times a share, without the noise that this leaves.
export const percent = (value) => Number((100 * value).toPrecision(6));

// A share of the traffic as it was set, never rounded: "12.5 %".
export const traffic = (value) => `${percent(value)} %`;

export const ago = (when) => (when ? `${span(Date.now() / 1000 - when, 1)} ago` : NONE);

export const number = (value, digits = 2) => (value === null || value === undefined ? NONE : value.toFixed(digits));

// A share with its interval: "62 % [51, 72]".
export function surely(value, interval) {
  if (value === null || value === undefined) return NONE;
  const bounds = interval?.map((bound) => (100 * bound).toFixed(0)).join(", ");
  return share(value) + (bounds ? ` [${bounds}]` : "");
}

// A difference of two shares, in points: "+8.1".
export const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`;

// Evidence runs over many powers of ten.
export function evidence(value) {
  if (value >= 1e6) return "over a million";
  return value >= 100 ? Math.round(value).toLocaleString() : String(Number(value.toPrecision(2)));
}

const ABOUT = ["id", "kind", "name", "role", "version"]; // understood without their names
const LENGTHS = ["canary", "watch"]; // seconds

// What an action changed, in a few words: what it is about, and what was and is now.
export function change(before, after) {
  if (both(before, after)) {
    const isSame = (name) => JSON.stringify(before[name]) === JSON.stringify(after[name]);
    const about = ABOUT.filter((name) => name in after && isSame(name)).map((name) => short(after[name])).join(" ");
    const moves = Object.keys(after)
      .filter((name) => !isSame(name))
      .map((name) => `${name}: ${short(before[name], name)} → ${short(after[name], name)}`);
    return [about, moves.join(", ")].filter(Boolean).join(", ");
  }
  if (before === null && after === null) return "";
  if (before === null) return short(after);
  return `${short(before)} → ${after === null ? "none" : short(after)}`;
}

const both = (before, after) => [before, after].every((value) => value && typeof value === "object" && !Array.isArray(value));

function short(value, name) {
  if (value === null || value === undefined) return NONE;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (LENGTHS.includes(name)) return span(value);
  if (typeof value === "number" && name === "share") return traffic(value);
  if (typeof value === "number") return String(Number(value.toPrecision(4)));
  if (Array.isArray(value)) return value.map((inner) => short(inner)).join(", ");
  if (typeof value !== "object") return String(value);
  const told = Object.entries(value).filter(([name, inner]) => inner !== null && name !== "created");
  return told.map(([name, inner]) => (name === "id" || name === "kind" ? short(inner) : `${name} ${short(inner, name)}`)).join(", ");
}
