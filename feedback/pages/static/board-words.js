// How the dashboard writes numbers.

export const NONE = "–";

export const share = (value, digits = 0) =>
  value === null || value === undefined ? NONE : `${(100 * value).toFixed(digits)} %`;

export const count = (value) => (value ?? 0).toLocaleString();

export const between = (interval, digits = 0) =>
  interval ? `${(100 * interval[0]).toFixed(digits)} to ${(100 * interval[1]).toFixed(digits)} %` : "";

// "95 %: 51 to 62 %", or null
export const sure = (interval, digits) => (interval ? `95 %: ${between(interval, digits)}` : null);

// "1 thumb", "2 thumbs"
export const many = (value, word, words = `${word}s`) => `${count(value)} ${value === 1 ? word : words}`;
