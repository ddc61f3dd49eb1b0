// The viewer: Aladin Lite with cut-outs of this server alone, catalogs over them, color bar, value under the cursor.

import A from "./vendor/aladin-lite-3.8.2/aladin.js";

const place = document.getElementById("sky");
const state = document.getElementById("viewer-state");
const data = place.dataset;
const STOPS = {
  inferno: "#000004, #1f0c48, #550f6d, #88226a, #ba3655, #e35933, #f98c0a, #f9c932, #fcffa4",
  magma: "#000004, #1d1147, #51127c, #832681, #b73779, #e75263, #fc8961, #fec488, #fcfdbf",
  viridis: "#440154, #46327e, #365c8d, #277f8e, #1fa187, #4ac16d, #a0da39, #fde725",
  grayscale: "#000, #fff",
  rdbu: "#053061, #4393c3, #d1e5f0, #f7f7f7, #fddbc7, #d6604d, #67001f",
};
const LOWEST = -3; // in units of the noise
let picture = null; // pixels and coordinates of the cut-out that is shown
const pictures = [];
const layers = [];
let shown = 0;

// FITS with one plane of 32-bit floats, and the linear frame around the center that the server adds (CUT...).
function readFits(buffer) {
  const head = new TextDecoder("ascii").decode(buffer.slice(0, Math.min(buffer.byteLength, 28800)));
  const cards = {};
  let end = 0;
  for (let at = 0; at + 80 <= head.length; at += 80) {
    const card = head.slice(at, at + 80);
    if (card.startsWith("END ")) {
      end = at + 80;
      break;
    }
    if (card[8] === "=") {
      const text = card.slice(10).split(" / ")[0].trim();
      cards[card.slice(0, 8).trim()] = text.startsWith("'") ? text.replaceAll("'", "").trim() : Number(text);
    }
  }
  return { cards, pixels: new DataView(buffer, Math.ceil(end / 2880) * 2880) };
}

// The same pixels with coordinates that Aladin draws: mosaics have conic ones, which it does not know.
function drawable(one) {
  const c = one.cards;
  const determinant = c.CUTXE * c.CUTYN - c.CUTXN * c.CUTYE;
  const cards = {
    SIMPLE: "T", BITPIX: -32, NAXIS: 2, NAXIS1: c.NAXIS1, NAXIS2: c.NAXIS2, CTYPE1: "'RA---SIN'", CTYPE2: "'DEC--SIN'",
    CRVAL1: c.CUTRA, CRVAL2: c.CUTDEC, CRPIX1: c.CUTX + 1, CRPIX2: c.CUTY + 1, CUNIT1: "'deg     '", CUNIT2: "'deg     '",
    CD1_1: c.CUTYN / determinant, CD1_2: -c.CUTXN / determinant, CD2_1: -c.CUTYE / determinant, CD2_2: c.CUTXE / determinant,
    RADESYS: "'ICRS    '", BUNIT: "'Jy/beam '",
  };
  const lines = Object.entries(cards).map(([key, value]) => {
    const text = String(value);
    return `${key.padEnd(8)}= ${text.startsWith("'") ? text.padEnd(20) : text.padStart(20)}`.padEnd(80);
  });
  const head = (lines.join("") + "END".padEnd(80)).padEnd(2880);
  const pixels = new Uint8Array(one.pixels.buffer, one.pixels.byteOffset, 4 * c.NAXIS1 * c.NAXIS2);
  return new Blob([head, pixels, new Uint8Array((2880 - (pixels.length % 2880)) % 2880)], { type: "application/fits" });
}

function valueAt(one, ra, dec) {
  const rad = Math.PI / 180;
  const east = (((ra - one.cards.CUTRA + 540) % 360) - 180) * rad;
  const d = dec * rad;
  const d0 = one.cards.CUTDEC * rad;
  const xi = (Math.cos(d) * Math.sin(east)) / rad;
  const eta = (Math.sin(d) * Math.cos(d0) - Math.cos(d) * Math.sin(d0) * Math.cos(east)) / rad;
  const x = Math.round(one.cards.CUTX + xi * one.cards.CUTXE + eta * one.cards.CUTXN);
  const y = Math.round(one.cards.CUTY + xi * one.cards.CUTYE + eta * one.cards.CUTYN);
  const width = one.cards.NAXIS1;
  if (x < 0 || y < 0 || x >= width || y >= one.cards.NAXIS2) return null;
  const value = one.pixels.getFloat32(4 * (y * width + x), false);
  return Number.isFinite(value) ? value : null;
}

function flux(value) {
  const size = Math.abs(value);
  if (size >= 1) return `${value.toPrecision(3)} Jy`;
  return size >= 1e-3 || size === 0 ? `${(1e3 * value).toPrecision(3)} mJy` : `${(1e6 * value).toPrecision(3)} µJy`;
}

function sexagesimal(ra, dec) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const tenths = Math.round((ra / 15) * 36000) % 864000;
  const seconds = Math.round(Math.abs(dec) * 3600);
  const hours = `${two(tenths / 36000)}h${two((tenths / 600) % 60)}m${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}s`;
  return `${hours} ${dec < 0 ? "-" : "+"}${two(seconds / 3600)}°${two((seconds / 60) % 60)}′${two(seconds % 60)}″`;
}

function limits() {
  const noise = Number(data.noise);
  const highest = Number(document.getElementById("highest").value) * noise;
  return data.subtracted === "yes" ? [-highest, highest] : [LOWEST * noise, highest];
}

function drawColors() {
  const [low, high] = limits();
  document.getElementById("colorbar").style.background = `linear-gradient(to right, ${STOPS[data.colors]})`;
  document.getElementById("colorbar").setAttribute("aria-label", `Colors from ${flux(low)}/beam to ${flux(high)}/beam, ${data.stretch}`);
  document.getElementById("low").textContent = `${flux(low)}/beam`;
  document.getElementById("high").textContent = `${flux(high)}/beam (${data.stretch})`;
  for (const layer of layers) layer.setCuts(low, high);
}

function show(number) {
  shown = number;
  layers.forEach((layer, index) => layer.setOpacity(index === number ? 1 : 0));
  picture = pictures[number];
  const label = document.getElementById("shown-epoch");
  if (label) label.textContent = number ? "second" : "first";
}

async function fetched(url) {
  const answer = await fetch(url);
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `the server answered ${answer.status}` }));
  throw new Error(`${problem.detail}.${problem.next_step ? ` Next: ${problem.next_step}` : ""}`);
}

async function addLayer(sky, url, name) {
  const one = readFits(await (await fetched(url)).arrayBuffer());
  pictures.push(one);
  const local = URL.createObjectURL(drawable(one));
  const [low, high] = limits();
  await new Promise((done, failed) => {
    const options = { name, colormap: data.colors, stretch: data.stretch, reversed: data.colors === "rdbu", minCut: low, maxCut: high };
    const layer = sky.createImageFITS(local, options, () => done(), (error) => failed(new Error(String(error))));
    sky.setOverlayImageLayer(layer, name);
    layers.push(layer);
  });
}

function overlay(sky, rows, name, color, shape) {
  const size = shape === "circle" ? 14 : 20;
  const catalog = A.catalog({ name, color, shape, sourceSize: size, displayLabel: shape === "circle" && rows.length <= 60, labelColumn: "name", labelColor: color });
  catalog.addSources(rows.map((row) => A.source(row.ra_deg, row.dec_deg, { name: row.name })));
  sky.addCatalog(catalog);
  return catalog;
}

function beamOf(sky) {
  const { BMAJ, BMIN, BPA } = pictures[0].cards;
  if (!BMAJ) return null;
  const color = data.subtracted === "yes" ? "#000" : "#fff";
  const layer = A.graphicOverlay({ color, lineWidth: 2, name: "beam" });
  sky.addOverlay(layer);
  const side = (0.44 * Number(data.size)) / 60;
  const dec = Number(data.dec) - side;
  const ra = Number(data.ra) + side / Math.cos((dec * Math.PI) / 180);
  layer.add(A.ellipse(ra, dec, BMAJ / 2, BMIN / 2, BPA || 0, { color }));
  return layer;
}

function switchWith(id, layer) {
  const box = document.getElementById(id);
  if (!layer) {
    box.disabled = true;
    return;
  }
  box.addEventListener("change", () => (box.checked ? layer.show() : layer.hide()));
}

// Aladin's buttons are pictures without a word.
function nameButtons() {
  const names = { "aladin-grid-control": "Grid of coordinates", "aladin-zoom-out": "Zoom out", "aladin-zoom-in": "Zoom in", "aladin-fullScreen-control": "Full screen" };
  for (const [name, words] of Object.entries(names)) {
    const button = place.querySelector(`button.${name}, .${name} button`);
    button.setAttribute("aria-label", words);
    button.title = words;
  }
  const nameless = () => place.querySelectorAll("img:not([alt])").forEach((one) => one.setAttribute("alt", ""));
  nameless();
  new MutationObserver(nameless).observe(place, { childList: true, subtree: true });
}

async function start() {
  await A.init;
  const wide = 1.1 * Math.max(1, place.clientWidth / place.clientHeight); // the whole cut-out, and a margin
  const sky = A.aladin(place, {
    log: false, samp: false, survey: [], hipsList: [], cooFrame: "ICRS", projection: "SIN", fov: (wide * Number(data.size)) / 60,
    target: `${data.ra} ${data.dec}`, showReticle: false, showLayersControl: false, showProjectionControl: false, showCooGridControl: true,
    showShareControl: false, showSettingsControl: false, showContextMenu: false, backgroundColor: "rgb(24, 32, 42)",
    showCooLocation: false, showFrame: false, // its search box asks servers outside; the form above the picture searches
  });
  nameButtons();
  drawColors();
  await addLayer(sky, data.first, "first");
  if (data.second) await addLayer(sky, data.second, "second");
  show(0);
  drawColors();
  switchWith("show-beam", beamOf(sky));
  const near = (row) => Math.abs(row.dec_deg - Number(data.dec)) < 1 && Math.abs(((row.ra_deg - Number(data.ra) + 540) % 360) - 180) < 3;
  const sources = (await (await fetched(data.sources)).json()).items;
  switchWith("show-sources", overlay(sky, sources, "sources", "#6fd0ff", "circle"));
  const candidates = (await (await fetched(data.candidates)).json()).items.filter(near);
  switchWith("show-candidates", overlay(sky, candidates, "candidates", "#ffb04b", "square"));
  sky.on("mouseMove", (where) => {
    if (where.ra === null || where.ra === undefined) return;
    const value = valueAt(picture, where.ra, where.dec);
    document.getElementById("cursor-position").textContent = sexagesimal((where.ra + 360) % 360, where.dec);
    document.getElementById("cursor-value").textContent = value === null ? "–" : `${flux(value)}/beam`;
  });
  sky.on("objectHovered", (one) => {
    document.getElementById("cursor-source").textContent = (one && one.data && one.data.name) || "–";
  });
  document.getElementById("highest").addEventListener("input", drawColors);
  const blink = document.getElementById("blink");
  if (blink) {
    let timer = null;
    blink.addEventListener("click", () => {
      blink.textContent = timer ? "Blink" : "Stop";
      if (timer) clearInterval(timer);
      timer = timer ? null : setInterval(() => show(1 - shown), 700);
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "b" && !event.target.closest("input, select")) show(1 - shown);
    });
  }
  state.textContent = `Sources: ${sources.length}. Candidates: ${candidates.length}.`;
  place.dataset.ready = "yes";
}

start().catch((error) => {
  state.textContent = `This cut-out cannot be shown: ${error.message}`;
  state.className = "state bad";
  place.dataset.ready = "failed";
});
