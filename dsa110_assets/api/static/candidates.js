// Candidates by keyboard. Each key is one request; they go out one after the other, in the order of the keys, so that
// no quick hand loses one. A label belongs to the person who is signed in.

import "./plots.js";

const list = document.getElementById("candidates");
const rows = list ? [...list.querySelectorAll(".candidate")] : [];
const messages = document.getElementById("messages");
const csrf = JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"];
const LAST = "dsa110 last row"; // where "r" goes on in the next page
const done = []; // events in the order of the changes, for undo
let at = 0;
let waiting = 0;
let queue = Promise.resolve();

function say(text, level = "message") {
  const part = document.createElement("p");
  part.className = level;
  part.textContent = text;
  messages.replaceChildren(part);
}

function go(index, quietly = false) {
  if (!rows.length) return;
  at = Math.max(0, Math.min(rows.length - 1, index));
  for (const row of rows) row.removeAttribute("aria-current");
  rows[at].setAttribute("aria-current", "true");
  if (!quietly) {
    rows[at].focus({ preventScroll: true });
    rows[at].scrollIntoView({ block: "nearest" });
  }
}

const labelsOf = (row) => row.querySelector(".labels");
const unrated = (row) => !labelsOf(row).dataset.mine;

async function post(row, path, fields) {
  const answer = await fetch(`/ui/candidates/${row.dataset.event}/${path}`, {
    method: "POST",
    headers: { "HX-Request": "true", "X-CSRF-Token": csrf },
    body: new URLSearchParams(fields),
  });
  const text = await answer.text();
  if (!answer.ok) {
    messages.innerHTML = text; // a message of this server, escaped there
    return false;
  }
  const part = document.createElement("template");
  part.innerHTML = text;
  labelsOf(row).replaceWith(part.content.querySelector(".labels"));
  return true;
}

// `after`: whether what this takes back was saved; if not, there is nothing to send.
function send(row, path, fields = {}, after = Promise.resolve(true)) {
  if (!list.dataset.person) {
    say("Sign in to label: labels are kept for each person.", "problem");
    return;
  }
  waiting += 1;
  row.dataset.saving = "true";
  const saved = queue
    .then(async () => (await after) && post(row, path, fields))
    .catch(() => {
      say(`Not saved for ${row.getAttribute("aria-label")}: the server does not answer. Press the key again.`, "problem");
      return false;
    });
  queue = saved.finally(() => {
      waiting -= 1;
      delete row.dataset.saving;
      list.dataset.waiting = String(waiting);
    });
  list.dataset.waiting = String(waiting);
  if (path !== "undo") done.push({ row, saved });
}

function undo() {
  const last = done.pop();
  const row = last ? last.row : rows[at];
  go(rows.indexOf(row));
  send(row, "undo", {}, last ? last.saved : Promise.resolve(true));
}

// Another page, when everything is saved.
async function leave(address) {
  await queue;
  location.assign(address);
}

async function nextUnrated() {
  await queue; // what was just pressed counts
  for (let step = 1; step <= rows.length; step++) {
    const index = at + step;
    if (index < rows.length && unrated(rows[index])) return go(index);
  }
  if (list.dataset.next) {
    sessionStorage.setItem(LAST, "unrated");
    return leave(list.dataset.next);
  }
  const first = rows.findIndex(unrated);
  if (first >= 0) return go(first);
  say("Each candidate of this list has your label.");
}

function note() {
  const details = rows[at].querySelector(".note-form");
  if (!details) return send(rows[at], "note");
  details.open = true;
  details.querySelector("textarea").focus();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
  if (!rows.length || before === "g") return;
  const row = rows[at];
  const button = labelsOf(row).querySelectorAll(".words button");
  const actions = {
    j: () => (at === rows.length - 1 && list.dataset.next ? leave(list.dataset.next) : go(at + 1)),
    k: () => go(at - 1),
    u: undo,
    n: note,
    r: nextUnrated,
    o: () => leave(row.dataset.href),
  };
  if (actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  } else if (/^[0-9]$/.test(event.key)) {
    event.preventDefault();
    const wanted = [...button].find((one) => one.querySelector("kbd").textContent === event.key);
    if (wanted) send(row, "label", { word: wanted.value });
    else if (!button.length) send(row, "label");
  }
}

let before = "";
document.addEventListener("keydown", (event) => {
  press(event);
  before = event.key; // "g" and a key go to another page
});

if (list) {
  list.addEventListener("submit", (event) => {
    event.preventDefault();
    const row = event.target.closest(".candidate");
    const path = event.target.getAttribute("action").split("/").pop();
    const fields = Object.fromEntries(new FormData(event.target, event.submitter));
    go(rows.indexOf(row));
    send(row, path, fields);
  });
  list.addEventListener("keydown", (event) => {
    const text = event.target.closest("textarea");
    if (!text) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      text.form.requestSubmit();
    } else if (event.key === "Escape") {
      text.closest("details").open = false;
      go(at);
    }
  });
  list.addEventListener("focusin", (event) => {
    const index = rows.indexOf(event.target.closest(".candidate"));
    if (index >= 0 && index !== at) go(index, true);
  });
  window.addEventListener("beforeunload", (event) => {
    if (waiting) event.preventDefault();
  });
  list.dataset.waiting = "0";
  go(0, true);
  if (sessionStorage.getItem(LAST)) {
    sessionStorage.removeItem(LAST);
    if (!unrated(rows[0])) nextUnrated();
  }
  list.dataset.ready = "true";
}
