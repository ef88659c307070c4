// A streamed chat completion: server-sent events to pieces of text.

// Yields {id, model, text, finish} for each event, as far as it has them. Throws {message, code} on an error event.
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
  return { id: event.id, model: event.model, text: choice?.delta?.content ?? "", finish: choice?.finish_reason ?? null };
}

// The engine went away in the middle of a reply.
export class StreamError extends Error {}
