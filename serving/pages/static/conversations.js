// Conversations as this browser keeps them, one entry each in localStorage, apart for each person.
//
// A conversation: {id, title, named, updated, draft, turns}. A turn is one of
//   {role: "user", text}
//   {role: "assistant", replies: [reply…], shown, comparison?}     several: asked again, or compared
//   {role: "pair", id, a: {text, finish}, b: {text, finish}}       blind, to be chosen from
// A reply: {text, id, model, finish, rating?}; `finish` is null where it was broken off.

import { user } from "./api.js";

const PREFIX = `thumbwheel:chat:${user}:`;
const TITLE = 60; // characters of the first message that make a title
const loaded = new Map(); // one object per conversation, so that a stream writes into what is shown
const gone = new Set(); // ids of those that were deleted here

export function all() {
  for (let index = 0; index < localStorage.length; index += 1) {
    const key = localStorage.key(index);
    if (key.startsWith(PREFIX)) read(key.slice(PREFIX.length));
  }
  return [...loaded.values()].sort((one, other) => other.updated - one.updated);
}

function read(id) {
  if (loaded.has(id)) return loaded.get(id);
  try {
    const found = JSON.parse(localStorage.getItem(PREFIX + id));
    if (!found || !Array.isArray(found.turns)) return null;
    loaded.set(id, found);
    return found;
  } catch {
    return null; // not ours, or half written
  }
}

export const open = (id) => (id ? read(id) : null);

// The object that stands for a conversation by now: another tab may have written to it since.
export const latest = (conversation) => read(conversation.id) ?? conversation;

export function create() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(12))]; // randomUUID is missing over plain HTTP
  const id = bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: "New conversation", named: false, updated: Date.now(), draft: "", turns: [] };
}

// Keep it, in memory and in the browser; a browser that has no room left is told of by an event.
export function save(conversation) {
  conversation.updated = Date.now();
  store(conversation);
}

export function saveDraft(conversation, text) {
  conversation.draft = text;
  if (conversation.turns.length || text) store(conversation);
  else remove(conversation);
}

function store(conversation) {
  if (gone.has(conversation.id)) return; // a reply or a rating was still under way when it was deleted
  loaded.set(conversation.id, conversation);
  try {
    localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  } catch {
    document.dispatchEvent(new CustomEvent("browserfull"));
  }
}

// For good: nothing that is still under way brings it back.
export function discard(conversation) {
  gone.add(conversation.id);
  remove(conversation);
}

function remove(conversation) {
  loaded.delete(conversation.id);
  localStorage.removeItem(PREFIX + conversation.id);
}

export function titled(conversation, text) {
  if (conversation.named) return;
  const line = text.trim().replace(/\s+/g, " ");
  conversation.title = line.length > TITLE ? `${line.slice(0, TITLE).trimEnd()}…` : line;
  conversation.named = true;
}

export function rename(conversation, title) {
  conversation.title = title;
  conversation.named = true;
  save(conversation);
}

export const shownReply = (turn) => turn.replies[turn.shown];

// The messages that the next reply answers.
export function messages(conversation, turns = conversation.turns) {
  return turns.flatMap((turn) => {
    if (turn.role === "user") return [{ role: "user", content: turn.text }];
    if (turn.role === "assistant") return [{ role: "assistant", content: shownReply(turn).text }];
    return [];
  });
}

// The conversation that a key of the browser's store is about, if any.
export const idOf = (key) => (key?.startsWith(PREFIX) ? key.slice(PREFIX.length) : null);

// Another tab has changed it: it is read again from the browser's store.
export function forget(id) {
  loaded.delete(id);
  gone.delete(id);
}
