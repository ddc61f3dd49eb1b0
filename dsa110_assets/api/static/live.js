// Parts of a page stay up to date. Each change of a subject of /api/events becomes an event `live-SUBJECT` on the body:
//   <section hx-get="/ui/dashboard/parts/queue" hx-trigger="live-observations from:body, every 60s" hx-swap="outerHTML">
// A hidden tab holds no connection, since a browser has six for a server.

const RETRY_MS = 20000;
let source = null;
let known = null;
let retry = 0;

function show(word, level) {
  const place = document.getElementById("live");
  if (!place) return;
  place.textContent = word;
  place.className = `state ${level}`;
}

function announce(state) {
  const before = known;
  known = { ...before, ...state };
  if (!before) return;
  const changed = Object.keys(state).filter((name) => before[name] !== state[name]);
  const back = changed.includes("registry") && state.registry === "up";
  for (const name of back ? Object.keys(known) : changed) document.body.dispatchEvent(new CustomEvent(`live-${name}`));
}

function connect() {
  clearTimeout(retry);
  if (source || document.hidden) return;
  source = new EventSource("/api/events");
  source.addEventListener("state", (event) => {
    const state = JSON.parse(event.data);
    if (state.registry === "up") show("live", "good");
    else show("registry does not answer", "bad");
    announce(state);
  });
  source.addEventListener("error", () => {
    show("reconnecting", "warning");
    if (source && source.readyState === EventSource.CLOSED) {
      disconnect(); // refused, as when too many listen
      retry = setTimeout(connect, RETRY_MS);
    }
  });
}

function disconnect() {
  if (source) source.close();
  source = null;
}

// A part in which somebody types or has opened a form is left alone.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.detail.target;
  const byItself = event.detail.requestConfig?.triggeringEvent?.type?.startsWith("live-") || event.detail.requestConfig?.verb === "get";
  if (!part.hasAttribute("data-part") || !byItself) return;
  const focus = document.activeElement;
  const busy = focus && part.contains(focus) && focus.matches("input, textarea, select, button, summary, a");
  if (busy || part.querySelector("details.form[open]")) event.detail.shouldSwap = false;
});

document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
window.addEventListener("pagehide", disconnect);
window.addEventListener("pageshow", connect);
