"""The mosaic of a declination strip: inverse-variance weighted mean of tiles corrected for the primary beam.

At each pixel ``S = sum(w I / P) / sum(w)`` over the tiles, with ``w = P**2 / sigma**2``, ``P`` the tile's
drift-averaged power beam, ``I`` its restored image in apparent flux and ``sigma`` its noise. The weights stay inverse
variances: the mosaic's noise is ``1 / sqrt(sum(w))`` (pitfall 15). Each tile is added directly to two sums, in the
window of the mosaic that it covers. Memory is that of one tile and of the sums; sums above `SUMS_IN_MEMORY_BYTES` are
kept on disk.

Tile images are interpolated with a windowed sinc, which keeps noise and peaks, and divided by its response to a source
measured with the mosaic's beam, which keeps fluxes; see `_kernels`. Beams and weights are smooth and are interpolated
linearly. Tiles whose restoring beams differ are first convolved to the smallest common one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.fits_planes import BEAM2_PER_JY2, JY_PER_BEAM, RowWriter, verify_planes
from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.restoring_beam import RestoringBeam, common_beam, largest_difference, mean_beam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking.convolution import convolve_to_beam
from dsa110_assets.mosaicking.grid import MosaicGrid, choose_grid, pixel_map, windows_of
from dsa110_assets.mosaicking.tiles import TileImage, check_one_strip
from dsa110_assets.mosaicking.writing import PreviewPixels, mosaic_header, write_previews
from dsa110_assets.products import image_path
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.strips import TOLERANCE_DEG

MOSAIC_SUFFIXES = ("image", "noise", "weight", "coverage")
BEAM_TOLERANCE = 0.005
"""Do not convolve if restoring beams differ by less than this fraction of their width; record their mean."""
BEAM_OUTLIER = 1.5
"""Leave out a tile whose beam is wider than this many times the median: it would smear the whole mosaic."""
NOISE_OUTLIER = 3.0
"""Leave out a tile whose pixels scatter by more than this many times its header's noise: its weights are wrong."""
SUMS_IN_MEMORY_BYTES = 2 << 30
_MAP_STEP_PX = 16
_ROWS_PER_TASK = 128
_SAMPLE_PIXELS = 2_000_000
SNR_SCATTER_LIMITS = (0.85, 1.15)


@dataclass(frozen=True)
class MosaicReport:
    """A finished mosaic: its inputs, files and figures.

    ``name``, ``directory``: the files are ``products.image_path(directory, name, suffix)`` for `MOSAIC_SUFFIXES`.
    ``preview``, ``small_preview``: PNG files. ``tiles``: observations combined, in order of time. ``rejected``:
    observation -> why it was left out. ``start_mjd``, ``mid_mjd``, ``end_mjd``: UTC. ``ra_deg``, ``dec_deg``: ICRS
    center of the strip. ``shape``: (rows, columns). ``cell_arcsec``, ``projection``: see `grid`. ``beam``: restoring
    beam of the mosaic. ``convolved``: whether tiles were convolved to it. ``noise_min_jy_per_beam``,
    ``noise_median_jy_per_beam``: of the noise map. ``snr_scatter``: robust scatter of image / noise, 1 if the noise map
    is right. ``area_deg2``: area with data. ``max_coverage``: most tiles on one pixel. ``duration_s``: wall-clock time.
    """

    name: str
    directory: Path
    preview: Path
    small_preview: Path
    tiles: tuple[str, ...]
    rejected: Mapping[str, str]
    start_mjd: float
    mid_mjd: float
    end_mjd: float
    ra_deg: float
    dec_deg: float
    shape: tuple[int, int]
    cell_arcsec: float
    projection: str
    beam: RestoringBeam
    convolved: bool
    noise_min_jy_per_beam: float
    noise_median_jy_per_beam: float
    snr_scatter: float
    area_deg2: float
    max_coverage: int
    duration_s: float

    def figures(self) -> dict[str, float | int | str]:
        """Named figures of the mosaic, units in the names."""
        return {
            "declination_deg": self.dec_deg,
            "area_deg2": self.area_deg2,
            "noise_min_mjy_per_beam": self.noise_min_jy_per_beam * 1e3,
            "noise_median_mjy_per_beam": self.noise_median_jy_per_beam * 1e3,
            "snr_scatter": self.snr_scatter,
            "most_tiles_on_a_pixel": self.max_coverage,
            "beam_major_arcsec": self.beam.major_deg * 3600,
            "beam_minor_arcsec": self.beam.minor_deg * 3600,
            "projection": self.projection,
        }

    def verdicts(self) -> list[Verdict]:
        """Verdict on the noise map."""
        reason = "robust scatter of image over noise map; 1 if the noise map is right"
        return [Verdict.judge("snr_scatter", self.snr_scatter, *SNR_SCATTER_LIMITS, reason)]


@dataclass(frozen=True)
class _Sums:
    """Running sums over the tiles, each of the grid's shape: weight * flux, weight, number of tiles."""

    flux: NDArray[np.float32]
    weight: NDArray[np.float32]
    count: NDArray[np.uint16]


def make_mosaic(
    tiles: Sequence[TileImage],
    out_dir: Path,
    name: str,
    *,
    provenance: Mapping[str, str],
    cell_arcsec: float | None = None,
    declination_tolerance_deg: float = TOLERANCE_DEG,
    threads: int = 0,
    beam_cutoff: float = BEAM_CUTOFF,
    sums_in_memory_bytes: int = SUMS_IN_MEMORY_BYTES,
) -> MosaicReport:
    """Combine the tiles of one declination strip into ``out_dir/name-{image,noise,weight,coverage}.fits`` and previews.

    Args:
        tiles: tiles of one strip, each observation once, in any order.
        out_dir: directory to write into, created if missing. The caller publishes it.
        name: name of the mosaic.
        provenance: ``code_version``, ``config_hash`` and further entries for the headers; see `writing.mosaic_header`.
        cell_arcsec: pixel size; None takes the tiles' own (the median).
        declination_tolerance_deg: largest distance of a tile's center from the strip's declination.
        threads: 0 means all cores.
        beam_cutoff: tiles add nothing where their drift-averaged beam is below this. A pixel without any tile is NaN.
        sums_in_memory_bytes: a larger mosaic keeps its sums in files of ``out_dir`` while it is made.

    Raises:
        MosaicError: no tiles, tiles of several strips, a tile that cannot be read, or nothing left to combine.
    """
    began = time.perf_counter()
    check_one_strip(tiles, declination_tolerance_deg)
    threads = threads or os.cpu_count() or 1
    ordered = sorted(tiles, key=lambda tile: tile.mid_mjd)
    kept, rejected = _without_beam_outliers(ordered)
    cell = float(np.median([tile.cell_arcsec for tile in kept])) if cell_arcsec is None else cell_arcsec
    beam, convolved = _target_beam([tile.beam for tile in kept])
    if beam.minor_deg * 3600.0 < 2.0 * cell:
        raise MosaicError(
            name, f"pixels of {cell} arcsec are too large for a beam of {beam.minor_deg * 3600:.1f} arcsec", "use smaller pixels"
        )
    grid = choose_grid(kept, cell)
    out_dir.mkdir(parents=True, exist_ok=True)
    with _sums_for(grid, out_dir, sums_in_memory_bytes) as sums:
        used: list[TileImage] = []
        for tile in kept:
            reason = _add_tile(tile, grid, sums, (beam if convolved else tile.beam, beam), beam_cutoff, threads)
            if reason is None:
                used.append(tile)
            else:
                rejected[tile.group_id] = reason
        if not used:
            reasons = "; ".join(f"{group_id}: {reason}" for group_id, reason in rejected.items())
            raise MosaicError(name, f"no tile could be used ({reasons})", "make the tiles' images again")
        return _write(
            name,
            out_dir,
            used,
            rejected,
            grid=grid,
            sums=sums,
            beam=beam,
            convolved=convolved,
            provenance=provenance,
            began=began,
        )


def _without_beam_outliers(tiles: Sequence[TileImage]) -> tuple[list[TileImage], dict[str, str]]:
    """Tiles without those whose beam is much wider than the others', and why those were left out."""
    typical = float(np.median([tile.beam.major_deg for tile in tiles]))
    rejected = {
        tile.group_id: f"restoring beam of {tile.beam.major_deg * 3600:.1f} arcsec, median {typical * 3600:.1f} arcsec"
        for tile in tiles
        if tile.beam.major_deg > BEAM_OUTLIER * typical
    }
    return [tile for tile in tiles if tile.group_id not in rejected], rejected


def _target_beam(beams: Sequence[RestoringBeam]) -> tuple[RestoringBeam, bool]:
    """Restoring beam of the mosaic, and whether tiles must be convolved to it."""
    mean = mean_beam(beams)
    return (mean, False) if largest_difference(beams, mean) <= BEAM_TOLERANCE else (common_beam(beams), True)


@contextmanager
def _sums_for(grid: MosaicGrid, out_dir: Path, in_memory_bytes: int) -> Generator[_Sums]:
    """Sums of the grid's shape, set to zero: in memory if they are small, else in files that are removed at the end."""
    if grid.shape[0] * grid.shape[1] * 10 <= in_memory_bytes:
        yield _Sums(np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.uint16))
        return
    files = [out_dir / f".sum-{key}.raw" for key in ("flux", "weight", "count")]
    try:
        yield _Sums(
            np.memmap(files[0], np.float32, "w+", shape=grid.shape),
            np.memmap(files[1], np.float32, "w+", shape=grid.shape),
            np.memmap(files[2], np.uint16, "w+", shape=grid.shape),
        )
    finally:
        for file in files:
            file.unlink(missing_ok=True)


def _add_tile(
    tile: TileImage, grid: MosaicGrid, sums: _Sums, beams: tuple[RestoringBeam, RestoringBeam], cutoff: float, threads: int
) -> str | None:
    """Add one tile to the sums. Return None, or the reason why it was not added.

    ``beams``: the one that the tile is to have, and that of the mosaic, with which its fluxes will be measured.
    """
    from dsa110_assets.mosaicking._kernels import accumulate_rows, interpolation_table, response_table

    target, measured_with = beams

    image, pb, weight = (tile.plane(suffix) for suffix in ("image", "pb", "weight"))
    weight[~np.isfinite(weight) | ~np.isfinite(pb) | (weight < 0)] = 0.0
    inside = (pb >= cutoff) & (weight > 0) & np.isfinite(image)
    if not inside.any():
        return "no pixel with data inside the primary beam"
    stride = max(1, int(np.sqrt(image.size / _SAMPLE_PIXELS)))
    sample = (slice(None, None, stride), slice(None, None, stride))
    seen = inside[sample]
    if not seen.any():
        return "almost no pixel with data inside the primary beam"
    weight_noise = float(np.median(pb[sample][seen] / np.sqrt(weight[sample][seen])))
    if not 0.5 < weight_noise / tile.noise_jy_per_beam < 2.0:
        return (
            f"the weights imply a noise of {weight_noise:.3g} Jy/beam, the header has {tile.noise_jy_per_beam:.3g}: "
            "the weights are not inverse variances"
        )
    scatter = robust_sigma(image[sample][seen])
    if scatter > NOISE_OUTLIER * weight_noise:
        return f"pixels scatter by {scatter:.3g} Jy/beam, the weights imply {weight_noise:.3g}"
    if largest_difference([tile.beam], target) > 1e-4:
        image, invalid = convolve_to_beam(image, tile.cell_arcsec / 3600.0, tile.beam, target, threads=threads)
        weight[invalid] = 0.0
        seen = seen & ~invalid[sample]
        if not seen.any():
            return "no pixel with data after the convolution to the common beam"
        after = robust_sigma(image[sample][seen])
        if scatter > 0 and after > 0:  # noise in Jy/beam changes with the beam; only the image gives the factor
            weight *= np.float32((scatter / after) ** 2)
    table, tile_wcs = interpolation_table(), tile.wcs()
    response = response_table(table, *(np.linalg.inv(beam.inverse_covariance_px(tile.cell_arcsec)) for beam in (target, measured_with)))
    for window in windows_of(tile, grid):
        map_x, map_y = pixel_map(grid, window, tile_wcs, _MAP_STEP_PX)
        part = (slice(window.y0, window.y1), slice(window.x0, window.x1))
        rows = window.y1 - window.y0
        views = sums.flux[part], sums.weight[part], sums.count[part]

        def run(first: int, last: int, map_x: NDArray = map_x, map_y: NDArray = map_y, views: tuple[NDArray, ...] = views) -> None:
            accumulate_rows(image, pb, weight, map_x, map_y, _MAP_STEP_PX, first, last, np.float32(cutoff), table, response, *views)

        run(0, 0)  # compile once, before the threads start
        with ThreadPoolExecutor(threads) as pool:
            for task in [pool.submit(run, first, min(first + _ROWS_PER_TASK, rows)) for first in range(0, rows, _ROWS_PER_TASK)]:
                task.result()
    return None


def _write(
    name: str,
    out_dir: Path,
    used: Sequence[TileImage],
    rejected: Mapping[str, str],
    *,
    grid: MosaicGrid,
    sums: _Sums,
    beam: RestoringBeam,
    convolved: bool,
    provenance: Mapping[str, str],
    began: float,
) -> MosaicReport:
    """Write the mosaic's files from the sums, cut to the part with data."""
    y0, y1, x0, x1 = _box_with_data(sums.weight)
    if y1 <= y0:
        raise MosaicError(name, "no pixel with data", "make the tiles' images again")
    shape = (y1 - y0, x1 - x0)
    header = mosaic_header(grid, (y0, x0), shape, beam, used, provenance)
    for group_id, reason in rejected.items():
        header.add_history(f"REJECTED {group_id}: {reason}")
    paths = {suffix: image_path(out_dir, name, suffix) for suffix in MOSAIC_SUFFIXES}
    preview = PreviewPixels(shape)
    stride = max(1, int(np.sqrt(shape[0] * shape[1] / _SAMPLE_PIXELS)))
    noise_sample: list[NDArray[np.float32]] = []
    snr_sample: list[NDArray[np.float32]] = []
    pixels, max_coverage = 0, 0
    block = max(stride, (1 << 24) // shape[1] // stride * stride)
    with (
        RowWriter(paths["image"], header, JY_PER_BEAM) as image_file,
        RowWriter(paths["noise"], header, JY_PER_BEAM) as noise_file,
        RowWriter(paths["weight"], header, BEAM2_PER_JY2) as weight_file,
        RowWriter(paths["coverage"], header, "", ">i2") as coverage_file,
    ):
        for row in range(y0, y1, block):
            part = (slice(row, min(row + block, y1)), slice(x0, x1))
            weight = np.asarray(sums.weight[part])
            covered = weight > 0
            safe = np.where(covered, weight, np.float32(1.0))
            image = np.where(covered, sums.flux[part] / safe, np.float32(np.nan))
            noise = np.where(covered, 1.0 / np.sqrt(safe), np.float32(np.nan)).astype(np.float32)
            image_file.write(image)
            noise_file.write(noise)
            weight_file.write(weight)
            coverage_file.write(sums.count[part])
            snr = np.asarray(image / noise, dtype=np.float32)
            preview.add(snr)
            pixels += int(covered.sum())
            max_coverage = max(max_coverage, int(sums.count[part].max()))
            few = (slice(None, None, stride), slice(None, None, stride))
            noise_sample.append(noise[few][covered[few]])
            snr_sample.append(snr[few][covered[few]])
    verify_planes(paths.values(), shape)
    pngs = out_dir / f"{name}-preview.png", out_dir / f"{name}-preview-small.png"
    title = f"{name}: {len(used)} tiles, S/N"
    write_previews(preview.pixels(), grid, (y0, x0), preview.factor, title, *pngs)
    noises, snrs = np.concatenate(noise_sample), np.concatenate(snr_sample)
    start, end = min(tile.start_mjd for tile in used), max(tile.end_mjd for tile in used)
    ra, dec = grid.wcs.wcs_pix2world((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, 0)
    return MosaicReport(
        name=name,
        directory=out_dir,
        preview=pngs[0],
        small_preview=pngs[1],
        tiles=tuple(tile.group_id for tile in used),
        rejected=dict(rejected),
        start_mjd=start,
        mid_mjd=(start + end) / 2,
        end_mjd=end,
        ra_deg=float(np.mod(ra, 360.0)),
        dec_deg=float(dec),
        shape=shape,
        cell_arcsec=grid.cell_arcsec,
        projection=grid.projection,
        beam=beam,
        convolved=convolved,
        noise_min_jy_per_beam=float(noises.min()),
        noise_median_jy_per_beam=float(np.median(noises)),
        snr_scatter=robust_sigma(snrs),
        area_deg2=pixels * (grid.cell_arcsec / 3600.0) ** 2,
        max_coverage=max_coverage,
        duration_s=time.perf_counter() - began,
    )


def _box_with_data(weight: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Rows y0..y1 and columns x0..x1 (ends excluded) that contain all pixels with weight."""
    rows = np.zeros(weight.shape[0], dtype=bool)
    columns = np.zeros(weight.shape[1], dtype=bool)
    for first in range(0, weight.shape[0], 256):
        covered = weight[first : first + 256] > 0
        rows[first : first + 256] = covered.any(axis=1)
        columns |= covered.any(axis=0)
    ys, xs = np.flatnonzero(rows), np.flatnonzero(columns)
    return (int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1) if ys.size else (0, 0, 0, 0)
