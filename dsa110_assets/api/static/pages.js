// What all pages do: the clock, keys, questions before a change, messages of htmx.

const LONGITUDE_DEG = -118.28; // for the sidereal time on display, as in pages/formats.py

function twoDigits(value) {
  return String(Math.floor(value)).padStart(2, "0");
}

// Local mean sidereal time in hours.
function lstOf(mjd) {
  const gmst = 280.46061837 + 360.98564736629 * (mjd - 51544.5); // degrees, Meeus 12.4 without the term in T squared
  return ((((gmst + LONGITUDE_DEG) % 360) + 360) % 360) / 15;
}

const clockOf = (hours) => `${twoDigits(hours)}:${twoDigits((hours % 1) * 60)}`;

// A time beside its UTC, as the switch says: scripts and tooltips use it as the pages use the class "also".
window.otherTimes = (mjd) => {
  const chosen = document.documentElement.dataset.times || "utc";
  return (chosen.includes("lst") ? `, LST ${clockOf(lstOf(mjd))}` : "") + (chosen.includes("mjd") ? `, MJD ${mjd.toFixed(4)}` : "");
};

function titleTimes() {
  for (const place of document.querySelectorAll("[data-mjd]")) {
    place.dataset.words ??= place.title;
    place.title = place.dataset.words + window.otherTimes(Number(place.dataset.mjd));
  }
}

function showClock() {
  const place = document.querySelector(".clock");
  if (!place) return;
  const ahead = Date.parse(place.dataset.now) - Date.now(); // the server's clock counts
  const spans = place.querySelectorAll("span");
  function tick() {
    const now = new Date(Date.now() + ahead);
    const mjd = now.getTime() / 86400000 + 40587;
    spans[0].textContent = now.toISOString().slice(0, 19).replace("T", " ") + " UTC";
    spans[1].textContent = `LST ${clockOf(lstOf(mjd))}`;
    spans[2].textContent = `MJD ${mjd.toFixed(4)}`;
  }
  tick();
  setInterval(tick, 1000);
}

// UTC alone, with LST, with MJD, with both: the words are those of TIMES in pages/layout.py.
const TIMES = { utc: "Times: UTC", lst: "Times: UTC, LST", mjd: "Times: UTC, MJD", "lst mjd": "Times: UTC, LST, MJD" };

function nextTimes() {
  const all = Object.keys(TIMES);
  const root = document.documentElement;
  const chosen = all[(all.indexOf(root.dataset.times) + 1) % all.length];
  root.dataset.times = chosen;
  document.getElementById("times").textContent = TIMES[chosen];
  titleTimes();
  document.dispatchEvent(new Event("times"));
  document.cookie = `dsa110_times=${encodeURIComponent(chosen)}; path=/ui; max-age=31536000; SameSite=Strict`;
}

function listenToKeys() {
  let before = "";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog[open]")) return;
    const search = document.getElementById("q");
    if (event.key === "/" && search) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "?") {
      document.getElementById("keys").showModal();
    } else if (event.key === "t" && before !== "g") {
      nextTimes();
    } else if (before === "g") {
      const link = document.querySelector(`header nav a[data-key="${CSS.escape(event.key)}"]`);
      if (link) link.click();
    }
    before = event.key;
  });
}

// What a person has changed in a form against the defaults in data-default.
function changes(form) {
  const changed = [...form.elements].filter((one) => one.dataset.default !== undefined && one.value !== "" && one.value !== one.dataset.default);
  if (!form.querySelector("[data-default]")) return "";
  if (!changed.length) return "\nAll settings are the platform's own.";
  return changed.map((one) => `\n${one.name.replaceAll("_", " ")}: ${one.value} instead of ${one.dataset.default}`).join("");
}

// A question with the names of fields in braces names what stands in them.
function filledIn(question, form) {
  return question.replace(/\{(\w+)\}/g, (all, name) => (form.elements[name] ? form.elements[name].value || form.elements[name].placeholder : all));
}

// A form with data-confirm asks before it is sent.
function askBeforeChanges() {
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(filledIn(question, event.target) + changes(event.target))) event.preventDefault();
  });
}

// htmx does not swap the answers of errors; ours are messages for a person (HX-Retarget says where).
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.xhr.status >= 400) event.detail.shouldSwap = true;
});
document.addEventListener("htmx:sendError", () => {
  document.getElementById("messages").innerHTML =
    '<section class="problem"><h1>No answer</h1><p>The server does not answer. Next: check <code>dsa110 api</code>, then load the page again.</p></section>';
});

// The page of a fault that passes asks again, and loads when the server has an answer.
function reloadWhenBack() {
  const place = document.querySelector("[data-reload]");
  if (!place) return;
  setTimeout(async () => {
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else reloadWhenBack();
  }, 1000 * Number(place.dataset.reload));
}

showClock();
titleTimes();
reloadWhenBack();
document.getElementById("times").addEventListener("click", nextTimes);
listenToKeys();
askBeforeChanges();
