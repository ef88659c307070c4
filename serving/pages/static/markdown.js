// Markdown through the server's renderer, which lets only harmless HTML through. The one place where HTML is
// parsed: what goes in is the answer of /render and nothing else.

import { post } from "./api.js";

const EVERY = 350; // milliseconds between two renderings of a reply that is being written
const MOST = 500; // texts a request, as the server allows
const known = new Map(); // text → HTML, of whole replies

function put(target, html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  target.classList.remove("raw");
  target.replaceChildren(...parsed.body.childNodes);
  // What is wider than the room scrolls in its own box, which the keyboard has to reach.
  for (const box of target.querySelectorAll("pre, table")) box.tabIndex = 0;
}

function putPlain(target, text) {
  target.classList.add("raw");
  target.textContent = text;
}

// Fetch what is not known yet of several replies in one go: a conversation that is opened.
export async function prepare(texts) {
  const missing = [...new Set(texts)].filter((text) => text && !known.has(text)).slice(-MOST);
  if (!missing.length) return;
  const { html } = await post("/render", { texts: missing });
  missing.forEach((text, index) => known.set(text, html[index]));
}

// Show a whole reply; as plain text until, or unless, it has been rendered.
export function show(target, text) {
  if (known.has(text)) {
    put(target, known.get(text));
    return;
  }
  putPlain(target, text);
  prepare([text]).then(() => known.has(text) && put(target, known.get(text)), () => {});
}

// Show a reply while it is being written: `write(text)` as often as it grows, `end()` to let go of it.
export function writer(target) {
  let latest = "";
  let busy = false;
  let last = 0;
  let ended = false;
  let rendered = false;

  async function render() {
    if (busy || ended) return;
    busy = true;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, last + EVERY - performance.now())));
    const text = latest;
    try {
      const { html } = await post("/render", { texts: [text] });
      if (!ended) {
        put(target, html[0]);
        rendered = true;
      }
    } catch {
      // It stays as it is; the next try or the end will show more.
    }
    last = performance.now();
    busy = false;
    if (latest !== text) render();
  }

  return {
    write(text) {
      latest = text;
      if (!rendered) putPlain(target, text);
      render();
    },
    end() {
      ended = true;
    },
  };
}
