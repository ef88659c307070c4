// The chat page: which conversation is open, and what its parts do to it.

import * as conversations from "./conversations.js";
import { button, find } from "./dom.js";
import { icon } from "./icons.js";
import { wireKeys } from "./keys.js";
import { prepare } from "./markdown.js";
import { CHOICES } from "./pair.js";
import { hasDetails, openDetails, rate, withdraw } from "./rating.js";
import { renderList, showSide, wireSidebar } from "./sidebar.js";
import * as talk from "./talk.js";
import * as thread from "./thread.js";

const message = find("#message");
const send = find("#send");
const compare = find("#compare");
const stopButton = find("#stop");
const hint = find("#composer-hint");
const composer = find("#composer");

let current = conversations.open(location.hash.slice(1)) ?? conversations.create();

const waitingPair = () => (current.turns.at(-1)?.role === "pair" ? current.turns.at(-1) : null);
// Not where a finger would only bring up the keyboard.
const focusMessage = () => matchMedia("(hover: hover)").matches && message.focus();
const say = (text) => {
  find("#status").textContent = text;
};

function renderAll() {
  const busy = talk.runs(current) !== null;
  find("#title").textContent = current.title;
  document.title = `${current.title} · Thumbwheel`;
  renderList(current, { open });
  thread.render(current, act);
  send.hidden = busy;
  compare.hidden = busy;
  stopButton.hidden = !busy;
  // Who is asked to choose is not to write on: a letter meant for the message would be a choice.
  message.hidden = hint.hidden = talk.runs(current)?.kind === "pair";
  composer.hidden = waitingPair() !== null;
}

// All that is Markdown in some turns.
const texts = (turns) =>
  turns.flatMap((turn) => (turn.replies ?? [turn.a, turn.b]).map((reply) => reply?.text));

function open(conversation) {
  current = conversation;
  message.value = current.draft;
  const blank = location.pathname + location.search;
  history.replaceState(null, "", current.turns.length ? `#${current.id}` : blank);
  showSide(false);
  prepare(texts(current.turns)).catch(() => {}).then(() => {
    if (current === conversation) {
      renderAll();
      thread.toEnd();
    }
  });
  renderAll();
  focusMessage();
}

// What a running reply tells of itself.
const watch = {
  async changed(conversation) {
    // Rendered before it is shown, so that a reply does not fall back to plain text for a moment.
    if (!talk.runs(conversation)) await prepare(texts(conversation.turns.slice(-1))).catch(() => {});
    if (conversation !== current) {
      renderList(current, { open });
      return;
    }
    message.value ||= conversation.draft; // one that was taken back
    renderAll();
    if (talk.runs(conversation)) say("The answer is being written.");
    else announce(conversation);
  },
  grew(conversation, reply) {
    if (conversation === current) thread.grew(reply);
  },
};

function announce(conversation) {
  const failed = talk.failure(conversation);
  const turn = conversation.turns.at(-1);
  if (failed) say("");
  else if (turn?.role === "pair") {
    say("Two answers are there. Press 1 or 2 for the better one, 0 for a tie, x if both are bad.");
    thread.focusPair();
  } else if (turn?.role === "assistant") say(`The answer: ${conversations.shownReply(turn).text}`);
}

function ask(how, text = message.value) {
  if (talk.runs(current)) return;
  if (waitingPair()) {
    thread.focusPair();
    return;
  }
  if (!text.trim()) return;
  conversations.titled(current, text);
  current.turns.push({ role: "user", text: text.trim() });
  if (text === message.value) {
    message.value = "";
    current.draft = "";
  }
  conversations.save(current);
  history.replaceState(null, "", `#${current.id}`);
  how(current, watch);
  thread.toEnd();
}

// Do what may fail and say so in the banner, which says by itself that the session is over.
async function trying(work) {
  try {
    await work();
  } catch (error) {
    if (error.status !== 401) tell(error.message);
  }
  renderAll();
}

// The reply of a conversation has another rating now, or none.
function saveRated(conversation, reply) {
  const kept = conversations.latest(conversation);
  const same = kept.turns.flatMap((turn) => turn.replies ?? []).find(({ id }) => id === reply.id);
  if (same) same.rating = reply.rating;
  conversations.save(kept);
}

function tell(text) {
  const banner = find("#banner");
  const dismiss = () => {
    banner.hidden = true;
  };
  banner.replaceChildren(text, " ", button({ class: "quiet", onclick: dismiss }, "Dismiss"));
  banner.hidden = false;
}

const act = {
  send: (text) => {
    ask(talk.reply, text);
    focusMessage();
  },
  again: () => talk.reply(current, watch),
  retry: (kind) => talk[kind](current, watch),
  page: (turn, index) => {
    turn.shown = index;
    conversations.save(current);
    renderAll();
  },
  details: (reply, conversation = current) =>
    openDetails(reply, () => {
      saveRated(conversation, reply);
      renderAll();
      say(reply.rating ? "The rating is saved." : "The rating is withdrawn.");
    }),
  thumb: (reply, name) =>
    trying(async () => {
      const conversation = current;
      const before = reply.rating;
      if (before?.rating === name && hasDetails(before)) {
        act.details(reply);
        return;
      }
      if (before?.rating === name) await withdraw(reply);
      else await rate(reply, { rating: name, comment: before?.comment, correction: before?.correction });
      saveRated(conversation, reply);
      // Who has gone on to another conversation by then is not asked about this one.
      if (reply.rating && name === "down" && conversation === current) act.details(reply);
      say(reply.rating ? "The rating is saved." : "The rating is withdrawn.");
    }),
  copy: async (reply, button) => {
    await navigator.clipboard.writeText(reply.text);
    button.replaceChildren(icon("done"));
    say("Copied.");
  },
  choose: async (turn, choice) => {
    if (talk.chooses(turn)) return;
    await trying(() => talk.choose(current, turn, choice));
    say(find(".verdict")?.textContent ?? "");
    focusMessage();
  },
  skip: (turn) => {
    if (talk.chooses(turn)) return;
    talk.skip(current, turn);
    talk.reply(current, watch);
    focusMessage();
  },
};

function fresh() {
  conversations.saveDraft(current, message.value);
  open(conversations.create());
}

// A single key on the answer that has the focus, else on the last one.
function onAnswer(name) {
  return () => find(`[data-focus="${thread.currentAnswer()?.dataset.index}:${name}"]`)?.click();
}

wireSidebar({
  open,
  fresh,
  changed: renderAll,
  removed: (conversation) => {
    talk.stop(conversation);
    if (conversation === current) open(conversations.create());
    else renderAll();
  },
});

wireKeys([
  ["Enter", "Send"],
  ["Shift Enter", "A new line"],
  ["Ctrl Enter", "Compare two answers"],
  ["Esc", "Stop; or from the message to the answers"],
  ["/", "To the message", () => message.focus()],
  ["n", "New conversation", fresh],
  ["j", "Next answer", () => thread.step(1)],
  ["k", "Previous answer", () => thread.step(-1)],
  ["u", "Good answer", onAnswer("up")],
  ["d", "Bad answer", onAnswer("down")],
  ["e", "Details of the rating", onAnswer("details")],
  ["r", "Answer again", onAnswer("again")],
  ["c", "Copy the answer", onAnswer("copy")],
  ...CHOICES.map(([key, winner, words]) => [
    key,
    `Of two answers: ${words}`,
    () => find(`[data-choice="${winner}"]`)?.click(),
  ]),
]);

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(talk.reply);
});
compare.addEventListener("click", () => ask(talk.pair));
stopButton.addEventListener("click", () => {
  talk.stop(current);
  message.focus();
});
message.addEventListener("input", () => conversations.saveDraft(current, message.value));
message.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) {
    if (talk.runs(current)) talk.stop(current);
    else thread.step(0);
  } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    ask(event.ctrlKey || event.metaKey ? talk.pair : talk.reply);
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target !== message && !find("dialog[open]")) talk.stop(current);
});
// Another tab has written. What is being written to here is this tab's.
window.addEventListener("storage", (event) => {
  const id = conversations.idOf(event.key);
  if (!id || talk.runs({ id })) return;
  conversations.forget(id);
  if (id === current.id) {
    current = conversations.open(id) ?? current;
    renderAll();
  } else renderList(current, { open });
});
document.addEventListener("browserfull", () =>
  tell("This browser has no room left for conversations: delete some, or this one is not kept."),
);

open(current);
