// The dialog that shows one thing in full. What was asked for late is not for the next thing that is opened.

import { get } from "./api.js";
import { el, find } from "./dom.js";

const dialog = find("#version");
find("#version-close").addEventListener("click", close);
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) close();
});

let opened = 0; // how often something was opened

// Ask for `path`, and show what `draw` makes of the answer.
export async function openDialog(title, path, draw) {
  const body = find("#version-body");
  find("#version-title").textContent = title;
  body.replaceChildren(el("p", { class: "soft" }, "Loading …"));
  dialog.showModal();
  const mine = ++opened;
  try {
    const found = await get(path);
    if (mine === opened) body.replaceChildren(...draw(found));
  } catch (error) {
    if (mine === opened) body.replaceChildren(el("p", { class: "note bad" }, error.message));
  }
}

export function close() {
  dialog.close();
}
