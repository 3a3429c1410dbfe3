/* Keeps Gradio's event stream open as long as an event is under way.
 *
 * The server closes the stream once it has sent all that it knows of. Gradio 6.31 loses an event that
 * is acknowledged while the closing is still on its way: its client believes the stream open, asks
 * for no other, and the page waits for ever (seen in 1 of 100 page loads on a busy machine, in each
 * whose stream comes a fifth of a second late). Here the closing is kept back until no event is left;
 * until then the stream is asked for again. Knows nothing of what the events mean, and changes
 * nothing else.
 */
(() => {
  "use strict";

  const plainFetch = window.fetch.bind(window);
  const joining = new Set(); // acknowledgements to come
  const open = new Set(); // events acknowledged, not complete
  const early = new Set(); // events complete before their acknowledgement

  const note = async (response) => {
    const { event_id: event } = await response.clone().json();
    if (event && !early.delete(event)) open.add(event);
  };

  /* The event is noted before Gradio hears of it. */
  const join = async (...request) => {
    const answer = plainFetch(...request);
    const noted = answer.then(note).catch(() => {}).finally(() => joining.delete(noted));
    joining.add(noted);
    await noted;
    return answer; // whatever it is: a refusal or a lost connection is Gradio's to tell
  };

  const parse = (message) => {
    try {
      return JSON.parse(message.replace(/^data:/, "")) ?? {};
    } catch {
      return {}; // not ours to judge
    }
  };

  /* Pass on what a stream says; return its closing, which is kept back, or "" if it just ends. */
  const pass = async (response, send) => {
    let text = "";
    for (const reader = response.body.pipeThrough(new TextDecoderStream()).getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) {
        send(text);
        return "";
      }
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      for (const message of messages) {
        const { msg, event_id: event } = parse(message);
        if (msg === "close_stream") return `${message}\n\n`;
        if (msg === "process_completed" && !open.delete(event)) early.add(event);
        send(`${message}\n\n`);
      }
    }
  };

  const follow = async (request) => {
    const first = await plainFetch(request.clone());
    if (!first.ok) return first;
    const again = async () => {
      const next = await plainFetch(request.clone());
      if (!next.ok) throw new Error(`The event stream is refused: ${next.status}`);
      return next;
    };
    const start = async (controller) => {
      const send = (text) => controller.enqueue(new TextEncoder().encode(text));
      try {
        let closing = await pass(first, send);
        while (closing && (open.size || joining.size)) {
          if (open.size) closing = await pass(await again(), send);
          else await Promise.race(joining);
        }
        if (closing) send(closing);
        else open.clear(); // who ends like this completes nothing any more
        controller.close();
      } catch (error) {
        open.clear();
        controller.error(error);
      }
    };
    return new Response(new ReadableStream({ start }), { headers: first.headers });
  };

  window.fetch = (resource, options) => {
    const { pathname } = new URL(resource.url ?? resource, location.href);
    if (pathname.endsWith("/queue/join")) return join(resource, options);
    if (pathname.endsWith("/queue/data")) return follow(new Request(resource, options));
    return plainFetch(resource, options);
  };
})();
