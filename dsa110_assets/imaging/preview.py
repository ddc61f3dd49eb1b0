"""Pictures of a tile image: a small one for the Dagster UI and a larger one for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.previews import canvas, few_colours, first_below_limit, noise_stretch, picture_of, show_plane
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.imaging.grid import ImageGrid

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_CIRCLES = 60
_HIGHEST_SIGMA = 30.0
_TICKS_SIGMA = (-3, 0, 3, 5, 10, 20, 30)
_STANDS_OUT_SIGMA = 5.0


def write_previews(
    directory: Path,
    name: str,
    image: NDArray[np.float32],
    primary_beam: NDArray[np.float32],
    grid: ImageGrid,
    *,
    beam: RestoringBeam,
    noise_jy_per_beam: float,
    sky: pd.DataFrame | None,
) -> tuple[Path, Path]:
    """Write ``<name>-preview.png`` (at most `LIMIT_BYTES`) and ``<name>-preview-large.png``; return both paths.

    Args:
        directory: directory for the files.
        name: observation.
        image: (N, N) Jy/beam, not corrected for the primary beam.
        primary_beam: (N, N).
        grid: grid of the image.
        beam: restoring beam, drawn in the lower left corner; if it would be too small to see, it is enlarged and the
            title gives the factor.
        noise_jy_per_beam: the colors span -3 to +30 times the noise.
        sky: catalog (ra_deg, dec_deg, flux_jy); its brightest sources are circled. None for no circles.
    """
    small, large = directory / f"{name}-preview.png", directory / f"{name}-preview-large.png"
    drawing = (name, image, primary_beam, grid, beam, noise_jy_per_beam, sky)
    large.write_bytes(few_colours(_draw(*drawing, inches=9.0, pixels=700), 128))
    smaller = ((300, 32), (220, 16), (150, 12), (100, 8))
    small.write_bytes(first_below_limit(few_colours(_draw(*drawing, inches=4.6, pixels=pixels), colours) for pixels, colours in smaller))
    return small, large


def _shrink(image: NDArray[np.float32], pixels: int, threshold: float) -> NDArray[np.float32]:
    """Reduce an image to one pixel of each block.

    It is the brightest pixel if that is above the threshold, so that point sources stay visible, and otherwise the
    middle one, so that noise keeps its distribution.
    """
    block = max(1, image.shape[0] // pixels)
    n = image.shape[0] // block
    blocks = image[: n * block, : n * block].reshape(n, block, n, block)
    brightest = blocks.max(axis=(1, 3))
    return np.where(brightest > threshold, brightest, blocks[:, block // 2, :, block // 2])


def _draw(
    name: str,
    image: NDArray[np.float32],
    primary_beam: NDArray[np.float32],
    grid: ImageGrid,
    beam: RestoringBeam,
    noise: float,
    sky: pd.DataFrame | None,
    *,
    inches: float,
    pixels: int,
) -> Image:
    from matplotlib.patches import Ellipse

    sigma = noise if np.isfinite(noise) and noise > 0 else 1e-3
    shown = _shrink(np.nan_to_num(image), pixels, _STANDS_OUT_SIGMA * sigma) / sigma
    half_deg = float(np.degrees(grid.size / 2 * grid.cell_rad))
    extent = (half_deg, -half_deg, -half_deg, half_deg)
    figure = canvas(inches, inches * 0.87, dpi=100)
    axes = figure.add_axes((0.13, 0.11, 0.7, 0.77))
    picture = show_plane(axes, shown, extent=extent, norm=noise_stretch(_HIGHEST_SIGMA))
    bar = figure.colorbar(picture, cax=figure.add_axes((0.845, 0.15, 0.025, 0.69)), ticks=list(_TICKS_SIGMA), extend="both")
    bar.ax.set_yticklabels([f"{n}$\\sigma$  {n * sigma * 1e3:.3g}" for n in _TICKS_SIGMA], fontsize=7)
    bar.ax.minorticks_off()
    bar.ax.set_title("mJy/beam\n(apparent)", fontsize=7, loc="left")
    coarse = primary_beam[:: max(1, grid.size // 100), :: max(1, grid.size // 100)]
    axes.contour(
        np.linspace(half_deg, -half_deg, coarse.shape[1]),
        np.linspace(-half_deg, half_deg, coarse.shape[0]),
        coarse,
        levels=[BEAM_CUTOFF, 0.5],
        colors="white",
        linewidths=0.6,
        linestyles="dashed",
    )
    if sky is not None and len(sky):
        y, x = grid.pixel_of(np.radians(sky["ra_deg"].to_numpy()), np.radians(sky["dec_deg"].to_numpy()))
        inside = np.isfinite(y) & (y > 0) & (x > 0) & (y < grid.size - 1) & (x < grid.size - 1)
        y, x, flux = y[inside], x[inside], sky["flux_jy"].to_numpy()[inside]
        apparent = flux * primary_beam[np.round(y).astype(int), np.round(x).astype(int)]
        brightest = np.argsort(apparent)[::-1][:_MOST_CIRCLES]
        brightest = brightest[apparent[brightest] > 3 * noise] if np.isfinite(noise) else brightest
        cell_deg = float(np.degrees(grid.cell_rad))
        axes.scatter(
            -(x[brightest] - grid.size / 2) * cell_deg,
            (y[brightest] - grid.size / 2) * cell_deg,
            s=(inches * 5) ** 2 / 12,
            facecolors="none",
            edgecolors="cyan",
            linewidths=0.5,
        )
    scale = max(1.0, 0.02 * 2 * half_deg / beam.major_deg)
    axes.add_patch(
        Ellipse(
            (0.92 * half_deg, -0.92 * half_deg),
            width=scale * beam.minor_deg,
            height=scale * beam.major_deg,
            angle=-beam.pa_deg,
            facecolor="white",
            edgecolor="black",
        )
    )
    enlarged = "" if scale == 1.0 else f" (drawn {scale:.0f} x)"
    axes.set_title(
        f'{name}\nrms {sigma * 1e3:.2f} mJy/beam, beam {beam.major_arcsec:.0f}" x {beam.minor_arcsec:.0f}"{enlarged}', fontsize=8
    )
    axes.set_xlabel("east offset (deg)")
    axes.set_ylabel("north offset (deg)")
    axes.set_xlim(half_deg, -half_deg)
    axes.set_ylim(-half_deg, half_deg)
    return picture_of(figure)
