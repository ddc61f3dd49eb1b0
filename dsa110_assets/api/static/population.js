// The population of sources: bins of eta and V and on the sky, with the outliers as points; a box chooses sources.

import { axis, colors, digits, flux, load } from "./plots.js";

const form = document.getElementById("filters");
const REACH_PX = 9;

function field(name) {
  const value = parseFloat(form.elements[name].value);
  return Number.isFinite(value) ? value : null;
}

function choose(values) {
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value === null ? "" : value;
  form.requestSubmit();
}

// A small light curve beside the pointer, once it has rested on a source.
const box = document.createElement("div");
box.className = "panel hover-curve";
box.hidden = true;
document.body.append(box);
const curves = new Map();
let looked = null;
let rest = null;

function look(one, left, top) {
  const number = one ? one.source_id : null;
  if (number === looked) return;
  looked = number;
  clearTimeout(rest);
  box.hidden = true;
  if (number === null) return;
  rest = setTimeout(async () => {
    if (!curves.has(number)) {
      const answer = await fetch(`/ui/sources/${number}/curve`);
      if (!answer.ok) return; // the hint below the plot still has the figures
      curves.set(number, await answer.text());
    }
    if (looked !== number) return;
    box.innerHTML = curves.get(number);
    box.style.left = `${Math.max(4, Math.min(left + 14, document.documentElement.clientWidth - 380))}px`;
    box.style.top = `${top + 14}px`;
    box.hidden = false;
  }, 200);
}

// One plot. what: x, y (of a source), edges(i, j) of a bin, scales, hint(bin), selected(box), chosen() -> box or null.
function binned(place, what, bins, sources) {
  const color = colors();
  const hint = document.querySelector(`[data-hint="${place.dataset.plot}"]`);
  const usual = hint.textContent;
  const most = Math.max(1, ...bins.cells.map((cell) => cell[2]));
  const counts = new Map(bins.cells.map((cell) => [`${cell[0]} ${cell[1]}`, cell[2]]));
  const shown = sources.filter((one) => Number.isFinite(what.x(one)) && Number.isFinite(what.y(one)));

  function drawBins(u) {
    for (const [i, j, n] of bins.cells) {
      const [x0, x1, y0, y1] = what.edges(i, j);
      const left = u.valToPos(x0, "x", true), right = u.valToPos(x1, "x", true);
      const bottom = u.valToPos(y0, "y", true), top = u.valToPos(y1, "y", true);
      u.ctx.fillStyle = color("busy", 0.12 + (0.8 * Math.log(n + 1)) / Math.log(most + 1));
      u.ctx.fillRect(Math.min(left, right), top, Math.abs(right - left), bottom - top);
    }
  }

  function drawSources(u) {
    const size = 3 * devicePixelRatio;
    u.ctx.save();
    u.ctx.beginPath();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    for (const one of shown) {
      const high = one.ese_score !== null && one.ese_score >= what.threshold;
      u.ctx.fillStyle = color(high ? "bad" : "accent", high ? 1 : 0.8);
      u.ctx.beginPath();
      u.ctx.arc(u.valToPos(what.x(one), "x", true), u.valToPos(what.y(one), "y", true), high ? 1.5 * size : size, 0, 2 * Math.PI);
      u.ctx.fill();
    }
    u.ctx.restore();
  }

  function nearest(u, left, top) {
    let best = null, least = REACH_PX;
    for (const one of shown) {
      const distance = Math.hypot(u.valToPos(what.x(one), "x") - left, u.valToPos(what.y(one), "y") - top);
      if (distance < least) [best, least] = [one, distance];
    }
    return best;
  }

  function tell(u) {
    const { left, top } = u.cursor;
    if (left === undefined || left < 0) {
      hint.textContent = usual;
      look(null);
      return;
    }
    const one = nearest(u, left, top);
    look(one, u.over.getBoundingClientRect().left + left, u.over.getBoundingClientRect().top + top);
    u.over.style.cursor = one ? "pointer" : "crosshair";
    if (one) {
      hint.textContent =
        `${one.name}: ${flux(one.mean_flux_jy)}, η ${digits(one.eta)}, V ${digits(one.v)}, score ${digits(one.ese_score)} sigma`;
      return;
    }
    const [i, j] = what.bin(u.posToVal(left, "x"), u.posToVal(top, "y"));
    const n = counts.get(`${i} ${j}`) || 0;
    hint.textContent = n ? `${n} sources at ${what.name(...what.edges(i, j))}` : usual;
  }

  const options = {
    width: place.clientWidth,
    height: Math.max(260, Math.min(420, place.clientWidth * 0.6)),
    legend: { show: false },
    cursor: { drag: { x: true, y: true, setScale: false, dist: 6 }, points: { show: false } },
    scales: what.scales,
    axes: [axis(color, what.labels[0], what.ticks), axis(color, what.labels[1], { size: 64, ...what.ticksY })],
    series: [{}, { paths: () => null, points: { show: false } }],
    hooks: {
      drawAxes: [drawBins, drawSources],
      setCursor: [tell],
      setSelect: [
        (u) => {
          if (!u.byHand || u.select.width < 2 || u.select.height < 2) return;
          const { left, top, width, height } = u.select;
          choose(
            what.selected(u.posToVal(left, "x"), u.posToVal(left + width, "x"), u.posToVal(top + height, "y"), u.posToVal(top, "y")),
          );
        },
      ],
    },
  };
  const [xs, ys] = what.span(bins.cells, shown);
  const plot = new uPlot(options, [xs, ys], place);
  plot.over.addEventListener("mousedown", () => (plot.byHand = true));
  let down = null;
  plot.over.addEventListener("mousedown", (event) => (down = [event.clientX, event.clientY]));
  plot.over.addEventListener("mouseup", (event) => {
    const one = nearest(plot, plot.cursor.left, plot.cursor.top);
    if (one && down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4) location.assign(`/ui/sources/${one.source_id}`);
  });
  function mark() {
    const box = what.chosen();
    plot.byHand = false;
    if (!box) return plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    const [x0, x1] = [plot.valToPos(box[0], "x"), plot.valToPos(box[1], "x")].sort((a, b) => a - b);
    const [y0, y1] = [plot.valToPos(box[2], "y"), plot.valToPos(box[3], "y")].sort((a, b) => a - b);
    plot.setSelect({ left: x0, width: x1 - x0, top: y0, height: y1 - y0 }, false);
  }
  mark();
  form.addEventListener("submit", mark);
  new ResizeObserver(() => {
    if (Math.abs(plot.width - place.clientWidth) > 2) {
      plot.setSize({ width: place.clientWidth, height: plot.height });
      mark();
    }
  }).observe(place);
  place.dataset.ready = "true";
}

function ends(values, fallback) {
  const known = values.filter(Number.isFinite);
  return known.length ? [Math.min(...known), Math.max(...known)] : fallback;
}

// Ticks at 1, 2 and 5 times the powers of ten, of an axis of logarithms.
const decades = {
  splits: (u, axisIndex, low, high) => {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const one of [1, 2, 5]) {
        const place = power + Math.log10(one);
        if (place >= low && place <= high) found.push(place);
      }
    }
    return found;
  },
  values: (u, splits) => splits.map((place) => digits(10 ** place, 1)),
};

function etaV(found) {
  const { step_x: dx, step_y: dy } = found.eta_v;
  // the plot is in logarithms: uPlot's own logarithmic axis fails for some ranges
  const round = (value) => Number((10 ** value).toPrecision(3));
  let limits = null;
  return {
    threshold: found.threshold,
    x: (one) => Math.log10(one.eta),
    y: (one) => Math.log10(one.v),
    edges: (i, j) => [i * dx, (i + 1) * dx, j * dy, (j + 1) * dy],
    bin: (x, y) => [Math.floor(x / dx), Math.floor(y / dy)],
    name: (...ends) => ((t) => `η ${t[0]} to ${t[1]}, V ${t[2]} to ${t[3]}`)(ends.map((end) => digits(10 ** end))),
    ticks: decades,
    ticksY: decades,
    labels: ["η (reduced χ² of a constant)", "V (standard deviation / mean)"],
    scales: {
      x: { time: false, range: () => limits[0] },
      y: { range: () => limits[1] },
    },
    span: (cells) => {
      const x = ends(cells.flatMap((cell) => [cell[0] * dx, (cell[0] + 1) * dx]), [-1, 2]);
      const y = ends(cells.flatMap((cell) => [cell[1] * dy, (cell[1] + 1) * dy]), [-3, 0]);
      limits = [x, y].map(([low, high]) => [low - 0.1, high + 0.1]);
      return limits;
    },
    selected: (x0, x1, y0, y1) => ({ min_eta: round(x0), max_eta: round(x1), min_v: round(y0), max_v: round(y1) }),
    chosen: () => {
      const given = ["min_eta", "max_eta", "min_v", "max_v"].map(field);
      if (given.every((value) => value === null)) return null;
      return given.map((value, n) => (value > 0 ? Math.log10(value) : limits[n >> 1][n % 2]));
    },
  };
}

function sky(found) {
  const { step_x: dx, step_y: dy } = found.sky;
  let limits = null;
  return {
    threshold: found.threshold,
    x: (one) => one.ra_deg,
    y: (one) => one.dec_deg,
    edges: (i, j) => [i * dx, (i + 1) * dx, j * dy, (j + 1) * dy],
    bin: (x, y) => [Math.floor(x / dx), Math.floor(y / dy)],
    name: (x0, x1, y0, y1) => `RA ${x0} to ${x1}, Dec ${y0} to ${y1} deg`,
    labels: ["Right ascension (deg)", "Declination (deg)"],
    ticks: { incs: [1, 2, 5, 10, 15, 30, 60, 90] },
    scales: { x: { time: false, dir: -1, range: () => [0, 360] }, y: { range: () => limits } },
    span: (cells) => {
      const [low, high] = ends(cells.flatMap((cell) => [cell[1] * dy, (cell[1] + 1) * dy]), [-10, 90]);
      limits = [Math.max(-90, low - 1), Math.min(90, high + 1)];
      return [[0, 360], limits];
    },
    selected: (a, b, low, high) => {
      const [x0, x1] = [Math.min(a, b), Math.max(a, b)];
      const dec = Math.max(-90, Math.min(90, (low + high) / 2));
      const across = ((x1 - x0) / 2) * Math.cos((dec * Math.PI) / 180);
      const radius = Math.min(10, Math.max(0.05, Math.hypot(across, (high - low) / 2)));
      const ra = ((((x0 + x1) / 2) % 360) + 360) % 360;
      return { ra_deg: Number(ra.toFixed(3)), dec_deg: Number(dec.toFixed(3)), radius_deg: Number(radius.toPrecision(3)) };
    },
    chosen: () => {
      const [ra, dec] = [field("ra_deg"), field("dec_deg")];
      if (ra === null || dec === null) return null;
      const radius = field("radius_deg") ?? 0.1;
      const across = Math.min(180, radius / Math.max(0.02, Math.cos((dec * Math.PI) / 180)));
      return [ra - across, ra + across, dec - radius, dec + radius];
    },
  };
}

const places = document.getElementById("population");
try {
  const found = await load(places.dataset.url);
  binned(places.querySelector('[data-plot="eta-v"]'), etaV(found), found.eta_v, found.outliers);
  binned(places.querySelector('[data-plot="sky"]'), sky(found), found.sky, found.outliers);
} catch (error) {
  for (const one of document.querySelectorAll(".hint")) one.textContent = `The plot could not be drawn (${error.message}). Load the page again.`;
}
