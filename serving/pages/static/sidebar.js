// The list of conversations: pick, rename, delete.

import * as conversations from "./conversations.js";
import { button, el, find, findAll, set } from "./dom.js";
import { icon } from "./icons.js";

const side = find("#side");
const list = find("#list");
const toggle = find("#side-open");
const rename = find("#rename");
const remove = find("#remove");
const name = find("#rename-name");
let chosen = null; // the conversation that a dialog is about

function row(conversation, current, act) {
  const isCurrent = conversation === current;
  const { title } = conversation;
  const focus = (name) => `${name}:${conversation.id}`;
  const tool = (picture, label, onclick) => {
    const names = { "aria-label": `${label}: ${title}`, title: label, "data-focus": focus(picture) };
    return button({ class: "icon", ...names, onclick }, icon(picture));
  };
  const open = () => act.open(conversation);
  const pick = { class: "pick", "aria-current": isCurrent ? "true" : null, "data-focus": focus("pick"), onclick: open };
  return el(
    "li",
    { class: isCurrent ? "current" : null },
    button(pick, el("span", {}, title)),
    el(
      "span",
      { class: "tools" },
      tool("pencil", "Rename", () => ask(rename, conversation)),
      tool("bin", "Delete", () => ask(remove, conversation)),
    ),
  );
}

export function renderList(current, act) {
  const focus = document.activeElement?.dataset?.focus;
  const rows = conversations.all().map((conversation) => row(conversation, current, act));
  const none = "Your conversations will be listed here. They stay in this browser.";
  list.replaceChildren(...(rows.length ? rows : [el("li", { class: "none" }, none)]));
  if (focus && document.activeElement === document.body) find(`[data-focus="${focus}"]`, list)?.focus();
}

function ask(dialog, conversation) {
  chosen = conversation;
  name.value = conversation.title;
  dialog.showModal();
  if (dialog === rename) name.select();
}

export function showSide(open) {
  side.classList.toggle("open", open);
  set(toggle, { "aria-expanded": String(open) });
  if (open) find("#new").focus();
}

for (const cancel of findAll("dialog [data-close]")) {
  cancel.addEventListener("click", () => cancel.closest("dialog").close());
}

// `act`: open(conversation), changed(), removed(conversation), fresh().
export function wireSidebar(act) {
  toggle.append(icon("list"));
  find("#side-close").append(icon("close"));
  toggle.addEventListener("click", () => showSide(true));
  find("#side-close").addEventListener("click", () => {
    showSide(false);
    toggle.focus();
  });
  find("#new").addEventListener("click", act.fresh);
  side.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && side.classList.contains("open")) {
      showSide(false);
      toggle.focus();
    }
  });
  rename.addEventListener("submit", () => {
    conversations.rename(conversations.latest(chosen), name.value.trim() || chosen.title);
    act.changed();
  });
  for (const dialog of [rename, remove]) {
    dialog.addEventListener("close", () => (find(".current .pick", list) ?? find("#new")).focus());
  }
  remove.addEventListener("submit", () => {
    const conversation = conversations.latest(chosen);
    conversations.discard(conversation);
    act.removed(conversation);
  });
}
