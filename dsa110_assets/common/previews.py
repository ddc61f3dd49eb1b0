"""Pictures for people: canvas, palette, stretch, PNG, and the size limit of the Dagster UI.

Matplotlib's Agg draws the figures, without pyplot's global state. No product is made from a picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure
    from PIL.Image import Image

LIMIT_BYTES = 50_000
"""Largest picture that the Dagster UI shows inline."""
INK, ACCENT, QUIET = "#1f2a44", "#c8442b", "#8a94a6"
"""Colors of plots: data, highlights, reference lines."""
IMAGE_COLOURS = "inferno"
"""Color map of image planes."""
SMALL_DPI, LARGE_DPI = 70, 130
"""Dots per inch of plots: in the Dagster UI, and for a person who opens the file."""
_LOWEST_SIGMA = -3.0
_LINEAR_SIGMA = 3.0


def canvas(width_inch: float, height_inch: float, *, dpi: int = LARGE_DPI, constrained: bool = False) -> Figure:
    """Create an empty figure. ``constrained``: use matplotlib's layout that leaves room for labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inch, height_inch), dpi=dpi, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def png_of(figure: Figure) -> bytes:
    """Encode a figure as PNG; equal figures give equal bytes."""
    stream = BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return stream.getvalue()


def picture_of(figure: Figure) -> Image:
    """Draw a figure; return its pixels for `few_colours`, without a PNG between."""
    from PIL.Image import fromarray

    canvas: Any = figure.canvas
    canvas.draw()
    return fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def png_of_pixels(values: NDArray[np.floating]) -> bytes:
    """Encode values from 0 to 1, shape (ny, nx), y upward, as a PNG with one pixel each and no axes; NaN is white."""
    from matplotlib import colormaps
    from matplotlib.image import imsave

    stream = BytesIO()
    colours = colormaps[IMAGE_COLOURS].with_extremes(bad="white")
    imsave(stream, values, format="png", origin="lower", cmap=colours, vmin=0.0, vmax=1.0)
    return stream.getvalue()


def few_colours(picture: Image, colours: int, scale: float = 1.0) -> bytes:
    """Encode a picture as PNG with at most this many colors, scaled: a fifth of the bytes of one with all colors."""
    from PIL.Image import Dither, Quantize, Resampling

    if scale != 1.0:
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Resampling.LANCZOS)
    stream = BytesIO()
    picture.quantize(colours, method=Quantize.MAXCOVERAGE, dither=Dither.NONE).save(stream, format="PNG")
    return stream.getvalue()


def first_below_limit(pictures: Iterable[bytes]) -> bytes:
    """Return the first picture of at most `LIMIT_BYTES`, else the last.

    Args:
        pictures: from the best to the smallest; a generator makes no more than needed.

    Raises:
        ValueError: there is no picture.
    """
    picture: bytes | None = None
    for picture in pictures:
        if len(picture) <= LIMIT_BYTES:
            break
    if picture is None:
        raise ValueError("no picture was given")
    return picture


def noise_stretch(highest_sigma: float) -> AsinhNorm:
    """Color stretch of an image in units of its noise, from -3 to ``highest_sigma``.

    It is linear up to about 3, so that noise looks like noise, and logarithmic above (asinh).
    """
    from matplotlib.colors import AsinhNorm

    return AsinhNorm(_LINEAR_SIGMA, _LOWEST_SIGMA, highest_sigma)


def show_plane(axes: Any, values: NDArray[np.floating], **settings: Any) -> Any:
    """Draw an image plane, y upward, without interpolation, NaN in white; return matplotlib's image.

    ``settings``: arguments of matplotlib's imshow, such as ``norm``, ``vmin``, ``vmax``, ``extent``.
    """
    from matplotlib import colormaps

    colours = colormaps[IMAGE_COLOURS].with_extremes(bad="white")
    return axes.imshow(values, origin="lower", cmap=colours, interpolation="nearest", **settings)
