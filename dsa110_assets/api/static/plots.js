// What the plots share: colors of the page, numbers with units, times.

export function colors() {
  const style = getComputedStyle(document.documentElement);
  return (name, alpha = 1) => {
    const color = style.getPropertyValue(`--${name}`).trim();
    return alpha === 1 ? color : color + Math.round(alpha * 255).toString(16).padStart(2, "0"); // they are #rrggbb
  };
}

export function digits(value, n = 3) {
  return value === null || value === undefined || !Number.isFinite(value) ? "–" : String(Number(value.toPrecision(n)));
}

function fluxUnit(jy) {
  const size = Math.abs(jy);
  return size >= 1 ? [1, "Jy"] : size >= 1e-3 || size === 0 ? [1e3, "mJy"] : [1e6, "µJy"];
}

export function flux(jy, n = 3) {
  if (jy === null || jy === undefined || !Number.isFinite(jy)) return "–";
  const [factor, unit] = fluxUnit(jy);
  return `${digits(jy * factor, n)} ${unit}`;
}

/** A flux with its error, both in the unit of the larger one: two digits of the error, as many decimals. */
export function measured(jy, error) {
  if (!Number.isFinite(jy) || !Number.isFinite(error) || error <= 0) return flux(jy);
  const [factor, unit] = fluxUnit(Math.max(Math.abs(jy), error));
  const decimals = Math.max(0, 1 - Math.floor(Math.log10(error * factor)));
  return `${(jy * factor).toFixed(decimals)} ± ${(error * factor).toFixed(decimals)} ${unit}`;
}

export const secondsOf = (mjd) => (mjd - 40587) * 86400;
export const mjdOf = (seconds) => seconds / 86400 + 40587;

export function utc(mjd) {
  return new Date(secondsOf(mjd) * 1000).toISOString().slice(0, 19).replace("T", " ");
}

// Ticks of time in UTC, as long as they need to be.
export function timeTicks(u, splits, axisIndex, space, step) {
  return splits.map((seconds, n) => {
    const text = new Date(seconds * 1000).toISOString();
    const day = text.slice(0, 10);
    if (step >= 86400) return day;
    const before = n ? new Date(splits[n - 1] * 1000).toISOString().slice(0, 10) : "";
    return (before === day ? "" : day + "\n") + text.slice(11, 16);
  });
}

export function axis(color, label, more = {}) {
  return { stroke: color("faint"), label, grid: { stroke: color("line", 0.5), width: 1 }, ticks: { stroke: color("line") }, ...more };
}

export async function load(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${answer.status} for ${url}`);
  return answer.json();
}

// A picture that is not there says so.
document.addEventListener(
  "error",
  (event) => {
    const picture = event.target;
    if (picture.tagName !== "IMG" || !picture.closest(".film, .point, .candidates")) return;
    const note = document.createElement("span");
    note.className = "missing";
    note.textContent = "no image kept";
    picture.replaceWith(note);
  },
  true,
);
