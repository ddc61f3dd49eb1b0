// The light curve of a source: fluxes with quiet error bars, limits as arrows, excluded epochs, channels. What is shown,
// the zoom and the chosen point stand in the address, so that it can be sent to a colleague.

import { axis, colors, digits, flux, load, measured, mjdOf, secondsOf, timeTicks, utc } from "./plots.js";

const place = document.getElementById("curve");
const controls = document.getElementById("curve-controls");
const hint = document.getElementById("curve-hint");
const usual = hint.textContent;
const SWITCHES = ["flux", "limits", "excluded", "errors", "other", "channels"];
const REACH_PX = 14;
const state = new URLSearchParams(location.search);
let points = [];
let channels = null;
let plot = null;
let shown = []; // what is drawn: {x, y, err, kind, point}
let chosen = state.get("epoch");

function readState() {
  const scale = state.get("scale");
  if (scale === "raw" || scale === "normalized") controls.elements.scale.value = scale;
  if (state.has("show")) {
    const on = state.get("show").split(" ");
    for (const name of SWITCHES) controls.elements[name].checked = on.includes(name);
  }
}

function keepState() {
  const on = SWITCHES.filter((name) => controls.elements[name].checked).join(" ");
  state.set("scale", controls.elements.scale.value);
  state.set("show", on);
  if (chosen) state.set("epoch", chosen);
  history.replaceState(null, "", `${location.pathname}?${state}`);
}

function kindOf(point) {
  if (point.excluded) return "excluded";
  if (point.mosaic_kind !== "hourly") return "other";
  return point.is_limit ? "limits" : "flux";
}

// Value and error of a point in the chosen scale; null where there is none. A limit is shown at its upper limit.
function valueOf(point, raw) {
  const limit = point.is_limit ? (point.upper_limit_jy ?? point.flux_jy + 3 * point.flux_err_jy) : null;
  if (raw || point.excluded || point.mosaic_kind !== "hourly") return [limit ?? point.flux_jy, point.flux_err_jy];
  if (point.normalised_flux_jy === null) return [null, null];
  return [limit === null ? point.normalised_flux_jy : limit / point.normalisation, point.normalised_flux_err_jy];
}

function collect() {
  const raw = controls.elements.scale.value === "raw";
  const on = (name) => controls.elements[name].checked;
  shown = [];
  for (const point of points) {
    const kind = kindOf(point);
    if (!on(kind)) continue;
    const [y, err] = valueOf(point, raw);
    if (y !== null) shown.push({ x: secondsOf(point.time_mjd), y, err: point.is_limit ? null : err, kind, point });
  }
  if (on("channels") && channels) {
    for (const one of channels) {
      shown.push({ x: secondsOf(one.time_mjd), y: one.flux_jy, err: one.flux_err_jy, kind: "channels", channel: one, point: byName.get(one.mosaic_name) });
    }
  }
  shown.sort((a, b) => a.x - b.x);
}

const byName = new Map();

function data() {
  return [shown.map((one) => one.x), shown.map((one) => one.y * unit.factor)];
}

let unit = { factor: 1e3, name: "mJy" };

function setUnit() {
  const largest = Math.max(0, ...shown.map((one) => Math.abs(one.y)));
  unit = largest >= 2 ? { factor: 1, name: "Jy" } : { factor: 1e3, name: "mJy" };
}

function channelColor(number, highest) {
  return `hsl(${240 - (240 * number) / Math.max(1, highest)} 75% 65%)`;
}

function draw(u) {
  const color = colors();
  const ctx = u.ctx;
  const size = 3.2 * devicePixelRatio;
  const highest = channels ? Math.max(1, ...channels.map((one) => one.channel)) : 1;
  const errors = controls.elements.errors.checked;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  for (const one of shown) {
    const x = u.valToPos(one.x, "x", true);
    if (x < u.bbox.left - 10 || x > u.bbox.left + u.bbox.width + 10) continue;
    const y = u.valToPos(one.y * unit.factor, "y", true);
    const paint =
      one.kind === "channels" ? channelColor(one.channel.channel, highest)
        : color(one.kind === "excluded" ? "bad" : one.kind === "limits" ? "warning" : one.kind === "other" ? "good" : "link");
    ctx.strokeStyle = ctx.fillStyle = paint;
    ctx.lineWidth = devicePixelRatio;
    if (errors && one.err) {
      ctx.globalAlpha = 0.4; // quiet
      ctx.beginPath();
      ctx.moveTo(x, u.valToPos((one.y - one.err) * unit.factor, "y", true));
      ctx.lineTo(x, u.valToPos((one.y + one.err) * unit.factor, "y", true));
      ctx.stroke();
      ctx.globalAlpha = 1;
    }
    ctx.lineWidth = 1.6 * devicePixelRatio;
    ctx.beginPath();
    if (one.point && one.point.is_limit && one.kind !== "channels") {
      ctx.moveTo(x - size, y); ctx.lineTo(x + size, y);
      ctx.moveTo(x, y); ctx.lineTo(x, y + 3.5 * size);
      ctx.moveTo(x - 0.8 * size, y + 2.5 * size); ctx.lineTo(x, y + 3.5 * size); ctx.lineTo(x + 0.8 * size, y + 2.5 * size);
      ctx.stroke();
    } else if (one.kind === "excluded") {
      ctx.moveTo(x - size, y - size); ctx.lineTo(x + size, y + size);
      ctx.moveTo(x - size, y + size); ctx.lineTo(x + size, y - size);
      ctx.stroke();
    } else {
      ctx.arc(x, y, one.kind === "channels" ? 0.7 * size : size, 0, 2 * Math.PI);
      if (one.kind === "other") ctx.stroke();
      else ctx.fill();
    }
    if (one.point && one.point.mosaic_name === chosen && one.kind !== "channels") {
      ctx.strokeStyle = color("accent");
      ctx.lineWidth = 2 * devicePixelRatio;
      ctx.beginPath();
      ctx.arc(x, y, 2.6 * size, 0, 2 * Math.PI);
      ctx.stroke();
    }
  }
  ctx.restore();
}

function describe(one) {
  const { point } = one;
  const when = `${utc(mjdOf(one.x))} UTC${window.otherTimes(mjdOf(one.x))}`;
  if (one.kind === "channels") {
    return `${when}: channel ${one.channel.channel}, ${digits(one.channel.frequency_hz / 1e9, 4)} GHz, ${measured(one.y, one.err)} (as measured)`;
  }
  const normalized =
    point.normalised_flux_jy === null ? "not normalized"
      : `normalized ${measured(point.normalised_flux_jy, point.normalised_flux_err_jy)} (scale ${digits(point.normalisation, 4)})`;
  const limit = point.is_limit ? `, limit ${flux(point.upper_limit_jy)}` : "";
  const excluded = point.excluded ? ", excluded" : "";
  const flags = point.flags ? `, flags ${point.flags}` : "";
  const other = point.calibration_err_jy > 0 ? ` (of this error ${flux(point.calibration_err_jy)} is not noise)` : "";
  return `${when}, ${point.mosaic_name}: measured ${measured(point.flux_jy, point.flux_err_jy)}${other}, ${digits(point.snr)} sigma${limit}; ${normalized}${excluded}${flags}`;
}

function nearest(u, left, top) {
  let best = null, least = REACH_PX;
  for (const one of shown) {
    const distance = Math.hypot(u.valToPos(one.x, "x") - left, u.valToPos(one.y * unit.factor, "y") - top);
    if (distance < least) [best, least] = [one, distance];
  }
  return best;
}

function tell(u) {
  if (u.cursor.left === undefined || u.cursor.left < 0) return;
  const one = nearest(u, u.cursor.left, u.cursor.top);
  u.over.style.cursor = one ? "pointer" : "crosshair";
  if (one) say(one);
}

let told = null;

function say(one) {
  told = one;
  hint.textContent = describe(one);
}

document.addEventListener("times", () => told && say(told));

function open() {
  if (!chosen) return;
  htmx.ajax("GET", `${place.dataset.point}?epoch=${encodeURIComponent(chosen)}`, { target: "#point", swap: "innerHTML" });
}

function choose(one, show) {
  if (!one || !one.point) return;
  chosen = one.point.mosaic_name;
  say(one);
  markStrip();
  keepState();
  plot.redraw(false);
  if (show) open();
}

function markStrip() {
  for (const card of document.querySelectorAll("#strip [data-epoch]")) {
    if (card.dataset.epoch === chosen) card.setAttribute("aria-current", "true");
    else card.removeAttribute("aria-current");
  }
}

function range() {
  const xs = shown.map((one) => one.x);
  if (!xs.length) return null;
  const [low, high] = [Math.min(...xs), Math.max(...xs)];
  const margin = Math.max(3600, 0.03 * (high - low));
  return { min: low - margin, max: high + margin };
}

function zoomed() {
  const [low, high] = ["from", "to"].map((name) => parseFloat(state.get(name)));
  return Number.isFinite(low) && Number.isFinite(high) && high > low ? { min: secondsOf(low), max: secondsOf(high) } : null;
}

// Range of the fluxes in view with room for their errors; low and high are null if there are none.
function yRange(u, low, high) {
  if (low === null || high === null || !Number.isFinite(low)) return [0, 1];
  const errors = shown.map((one) => one.err || 0).sort((a, b) => a - b);
  const error = errors[Math.floor(0.9 * errors.length)] * unit.factor;
  const margin = 0.06 * (high - low) + 1.5 * error || 0.05 * Math.abs(high) || 1;
  return [low - margin, high + margin];
}

function show() {
  const keep = plot ? zoomed() : null;
  if (plot) plot.destroy();
  collect();
  setUnit();
  const color = colors();
  const raw = controls.elements.scale.value === "raw";
  plot = new uPlot(
    {
      width: place.clientWidth,
      height: Math.max(260, Math.min(460, place.clientWidth * 0.4)),
      legend: { show: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: true, y: false, dist: 6 }, points: { show: false } },
      scales: { x: { time: true }, y: { range: yRange } },
      axes: [axis(color, "Time (UTC)", { values: timeTicks, space: 90 }), axis(color, `${raw ? "Measured" : "Normalized"} flux (${unit.name})`, { size: 64 })],
      series: [{}, { paths: () => null, points: { show: false } }],
      hooks: {
        draw: [draw],
        setCursor: [tell],
        setScale: [
          (u, key) => {
            if (key !== "x" || !u.ready) return;
            const whole = range();
            const { min, max } = u.scales.x;
            if (whole && Math.abs(min - whole.min) + Math.abs(max - whole.max) > 1) {
              state.set("from", mjdOf(min).toFixed(4));
              state.set("to", mjdOf(max).toFixed(4));
            } else {
              state.delete("from");
              state.delete("to");
            }
            keepState();
          },
        ],
        ready: [(u) => (u.ready = true)],
      },
    },
    data(),
    place,
  );
  const wanted = keep || zoomed() || range();
  if (wanted) plot.setScale("x", wanted);
  let down = null;
  plot.over.addEventListener("mousedown", (event) => (down = [event.clientX, event.clientY]));
  plot.over.addEventListener("mouseup", (event) => {
    if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4) {
      choose(nearest(plot, event.clientX - plot.over.getBoundingClientRect().left, event.clientY - plot.over.getBoundingClientRect().top), true);
    }
  });
  plot.over.addEventListener("dblclick", () => setTimeout(everything));
  if (!shown.length) {
    const normalized = controls.elements.scale.value === "normalized" && points.length;
    told = null;
    hint.textContent = normalized ? "No normalized flux to show. Choose “as measured”, or switch more on." : points.length ? "Everything is switched off." : "This source was not measured yet.";
  }
  place.dataset.points = String(shown.length);
}

function everything() {
  const whole = range();
  if (whole) plot.setScale("x", whole);
}

function step(direction) {
  const order = shown.filter((one) => one.kind !== "channels");
  if (!order.length) return;
  const now = order.findIndex((one) => one.point.mosaic_name === chosen);
  const next = now < 0 ? (direction > 0 ? 0 : order.length - 1) : Math.max(0, Math.min(order.length - 1, now + direction));
  choose(order[next], false);
}

place.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    step(event.key === "ArrowRight" ? 1 : -1);
  } else if (event.key === "Enter") {
    open();
  }
});

controls.addEventListener("change", async () => {
  if (controls.elements.channels.checked && channels === null) channels = await load(place.dataset.channels);
  show();
  keepState();
});
controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.all) {
    for (const name of SWITCHES) controls.elements[name].checked = button.dataset.all === "true";
    controls.dispatchEvent(new Event("change"));
  } else if (button.dataset.zoom === "0") {
    everything();
  } else {
    const whole = range();
    if (whole) plot.setScale("x", { min: whole.max - 86400 * Number(button.dataset.zoom), max: whole.max });
  }
});
document.getElementById("strip").addEventListener("click", (event) => {
  const card = event.target.closest("[data-epoch]");
  if (!card || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  chosen = card.dataset.epoch;
  markStrip();
  keepState();
  plot.redraw(false);
  open();
});
document.body.addEventListener("htmx:afterSwap", markStrip);

try {
  readState();
  const found = await load(place.dataset.url);
  points = found.points;
  for (const point of points) byName.set(point.mosaic_name, point);
  if (!state.has("scale") && points.every((point) => point.normalised_flux_jy === null)) controls.elements.scale.value = "raw";
  if (controls.elements.channels.checked) channels = await load(place.dataset.channels);
  show();
  markStrip();
  const one = shown.find((each) => each.point && each.point.mosaic_name === chosen);
  if (one) say(one);
  new ResizeObserver(() => {
    if (Math.abs(plot.width - place.clientWidth) > 2) plot.setSize({ width: place.clientWidth, height: plot.height });
  }).observe(place);
  place.dataset.ready = "true";
} catch (error) {
  hint.textContent = `The light curve could not be drawn (${error.message}). Load the page again.`;
}
