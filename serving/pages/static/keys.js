// Keyboard shortcuts, and the dialog that lists them.

import { el, find } from "./dom.js";

const OFF = "thumbwheel:single-keys-off";
const dialog = find("#shortcuts");
const single = find("#single-keys");

const STEPS = new Set(["j", "k"]);
const TEXT = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio])";

// `shortcuts`: [key, words, action]; one without an action is only listed, and handled where it is typed.
export function wireKeys(shortcuts) {
  const actions = new Map(shortcuts.map(([key, , action]) => [key, action]));
  const caps = (keys) => keys.split(" ").flatMap((key, index) => [index ? " " : "", el("kbd", {}, key)]);
  const lines = shortcuts.flatMap(([keys, words]) => [el("dt", {}, caps(keys)), el("dd", {}, words)]);
  find("#shortcuts-list").append(el("dl", {}, lines));
  single.checked = localStorage.getItem(OFF) !== "1";
  single.addEventListener("change", () => localStorage.setItem(OFF, single.checked ? "0" : "1"));
  find("#help").addEventListener("click", () => dialog.showModal());
  document.addEventListener("keydown", (event) => {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey;
    if (!plain || !single.checked || event.target.closest?.(TEXT) || find("dialog[open]")) return;
    const action = event.key === "?" ? () => dialog.showModal() : actions.get(event.key);
    if (!action) return;
    event.preventDefault();
    // A key that is held goes through the answers, and does nothing else twice.
    if (!event.repeat || STEPS.has(event.key)) action();
  });
}
