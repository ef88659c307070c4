// One dialog for all that changes the service: what will happen, why it is done, and a button that says it.
//
// Nothing typed is lost: an error is shown beside it, and a reason that was given before a cancel is there again.

import { wrong } from "./api.js";
import { el, find, set } from "./dom.js";

const dialog = find("#ask");
const form = find("form", dialog);
const NAMES = "title says fields reason optional error cancel send".split(" ");
const parts = Object.fromEntries(NAMES.map((name) => [name, find(`#ask-${name}`)]));
const drafts = new Map(); // title → reason
let asked = null;
let busy = false; // what was asked for is on its way: the dialog stays until it is known how that went

// `says`: sentences; `fields`: elements of the form; `leave`: what the button says that does nothing;
// `send({reason, fields})` does it, and throws an ApiError where it could not; `done(answer)` is called after the
// dialog is gone.
export function ask({ title, says, fields = [], action, leave = "Cancel", danger = false, optional = false, send, done }) {
  asked = { title, send, done, focus: document.activeElement?.dataset?.focus };
  parts.title.textContent = title;
  parts.says.replaceChildren(...says.filter(Boolean).map((sentence) => el("p", {}, sentence)));
  parts.says.hidden = !says.some(Boolean);
  parts.fields.replaceChildren(...fields);
  parts.fields.hidden = fields.length === 0;
  parts.reason.value = drafts.get(title) ?? "";
  parts.optional.hidden = !optional;
  set(parts.reason, { required: !optional });
  parts.error.hidden = true;
  parts.send.textContent = action;
  parts.cancel.textContent = leave;
  parts.send.className = danger ? "danger" : "primary";
  dialog.showModal();
  (fields.length ? find("input, select", parts.fields) : parts.reason).focus();
}

// The elements of a template, with their values by name.
export function fieldsOf(template, values) {
  const fields = [...find(template).content.cloneNode(true).children];
  for (const [name, value] of Object.entries(values)) {
    for (const field of fields) {
      const input = find(`[name="${name}"]`, field);
      if (input) input.value = value;
    }
  }
  return fields;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return;
  const mine = asked;
  const { title, send, done } = mine;
  const reason = parts.reason.value.trim();
  if (!reason && parts.reason.required) {
    parts.error.textContent = "Say why: the reason stands in the audit log.";
    parts.error.hidden = false;
    parts.reason.focus();
    return;
  }
  wait(true);
  try {
    const answer = await send({ reason: reason || null, fields: Object.fromEntries(new FormData(form)) });
    drafts.delete(title);
    // A browser lets nobody be held in a dialog: who pressed Esc twice may have opened the next one by now.
    if (mine === asked) {
      parts.reason.value = "";
      dialog.close();
    }
    done?.(answer);
  } catch (error) {
    if (mine !== asked) return;
    parts.error.replaceChildren(...wrong(error));
    parts.error.hidden = false;
  } finally {
    wait(false);
  }
});

function wait(on) {
  busy = on;
  set(parts.send, { disabled: on, "aria-busy": on ? "true" : null });
  set(parts.cancel, { disabled: on });
}

dialog.addEventListener("cancel", (event) => {
  if (busy) event.preventDefault();
});
dialog.addEventListener("close", () => {
  drafts.set(asked.title, parts.reason.value);
  // What had the focus may have been drawn anew since: it is found by its name.
  if (asked.focus) find(`[data-focus="${CSS.escape(asked.focus)}"]`)?.focus();
});
parts.cancel.addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(parts.send);
});
