// Thumbs: saved at once when pressed, with reasons, a comment and a better answer in a dialog; changed or
// withdrawn at any time.

import { call, post, user, wrong } from "./api.js";
import { el, find, findAll, set } from "./dom.js";
import { icon } from "./icons.js";

const REASONS = {
  up: ["accurate", "helpful", "clear", "complete", "concise", "good tone", "creative"],
  down: ["wrong", "not helpful", "unclear", "too long", "too short", "repetitive", "off topic", "rude", "unsafe"],
};

// Give a reply a thumb, in place of the last one. Throws ApiError, and then the reply's rating is as it was.
export async function rate(reply, rating) {
  const said = await post("/v1/feedback", { completion_id: reply.id, ...rating, user });
  const { rating: thumb, reasons, comment, correction } = said;
  reply.rating = { rating: thumb, reasons, comment, correction };
}

export async function withdraw(reply) {
  await call("DELETE", `/v1/feedback/${encodeURIComponent(reply.id)}?user=${encodeURIComponent(user)}`);
  delete reply.rating;
}

// Whether there is more to a rating than its thumb, which a second press should not throw away.
export const hasDetails = (rating) => Boolean(rating.reasons.length || rating.comment || rating.correction);

export function reasonChips(thumb, chosen, name) {
  return REASONS[thumb].map((reason) => {
    const box = el("input", { type: "checkbox", name, value: reason, checked: chosen.includes(reason) });
    return el("label", { class: "chip" }, box, reason);
  });
}

export const chosenReasons = (within) => findAll("input:checked", within).map((input) => input.value);

const dialog = find("#rate");
const NAMES = "up down reasons comment correction copy error withdraw cancel save".split(" ");
const parts = Object.fromEntries(NAMES.map((name) => [name, find(`#rate-${name}`)]));
let opened = null; // {reply, thumb, changed, focus}
const UNSAVED = "thumbwheel:rating:"; // and the reply's id: what could not be saved, for the time of signing in again

function showThumb(thumb) {
  const chosen = opened.thumb === thumb ? chosenReasons(parts.reasons) : [];
  opened.thumb = thumb;
  set(parts.up, { "aria-pressed": String(thumb === "up") });
  set(parts.down, { "aria-pressed": String(thumb === "down") });
  parts.reasons.replaceChildren(...reasonChips(thumb, chosen, "rate-reason"));
}

// Ask for more on a rating. `changed()` is called when it was saved or withdrawn.
export function openDetails(reply, changed) {
  const unsaved = JSON.parse(sessionStorage.getItem(UNSAVED + reply.id));
  const { rating, reasons, comment, correction } = unsaved ?? reply.rating;
  opened = { reply, thumb: rating, changed, focus: document.activeElement?.dataset?.focus };
  showThumb(rating);
  parts.reasons.replaceChildren(...reasonChips(rating, reasons, "rate-reason"));
  parts.comment.value = comment ?? "";
  parts.correction.value = correction ?? "";
  parts.error.hidden = true;
  dialog.showModal();
  // Not where a dialog puts it, on the other thumb, which Enter would press.
  find("input", parts.reasons).focus();
}

async function end(work) {
  set(parts.save, { disabled: true });
  try {
    await work();
    sessionStorage.removeItem(UNSAVED + opened.reply.id);
    opened.changed();
    dialog.close();
  } catch (error) {
    sessionStorage.setItem(UNSAVED + opened.reply.id, JSON.stringify(written()));
    parts.error.replaceChildren(...wrong(error));
    parts.error.hidden = false;
  } finally {
    set(parts.save, { disabled: false });
  }
}

const written = () => ({
  rating: opened.thumb,
  reasons: chosenReasons(parts.reasons),
  comment: parts.comment.value.trim() || null,
  correction: parts.correction.value.trim() || null,
});

const saved = () => rate(opened.reply, written());

for (const thumb of ["up", "down"]) {
  parts[thumb].classList.add(thumb);
  parts[thumb].prepend(icon(thumb));
  parts[thumb].addEventListener("click", () => showThumb(thumb));
}
parts.copy.addEventListener("click", () => {
  // What is written there already is not thrown away.
  if (!parts.correction.value.trim()) parts.correction.value = opened.reply.text;
  parts.correction.focus();
});
// What had the focus may have been built again since: it is found by its name.
dialog.addEventListener("close", () => find(`#thread [data-focus="${opened.focus}"]`)?.focus());
parts.cancel.addEventListener("click", () => dialog.close());
parts.withdraw.addEventListener("click", () => end(() => withdraw(opened.reply)));
find("form", dialog).addEventListener("submit", (event) => {
  event.preventDefault();
  end(saved);
});
dialog.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    end(saved);
  }
});
