// A streamed chat completion: server-sent events to pieces of text.

// Yields {id, model, text, finish} for each event, as far as it has them. Throws StreamError on an error.
export async function* pieces(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.startsWith("data: ") ? event.slice(6) : "";
        if (data === "[DONE]") return;
        if (data) yield piece(JSON.parse(data));
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function piece(event) {
  if (event.error) throw new StreamError(event.error.message);
  const choice = event.choices?.[0];
  const [text, finish] = [choice?.delta?.content ?? "", choice?.finish_reason ?? null];
  return { id: event.id, model: event.model, text, finish };
}

// The engine went away in the middle of a reply.
export class StreamError extends Error {}
