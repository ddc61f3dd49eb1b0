"""Pictures: north is up, missing pixels are white, sizes are within the limit, equal figures give equal bytes."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dsa110_assets.common import previews


def rgb_of(png: bytes) -> np.ndarray:
    with Image.open(BytesIO(png)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def plot_of_a_line() -> bytes:
    figure = previews.canvas(4.0, 3.0, dpi=previews.SMALL_DPI, constrained=True)
    figure.add_subplot().plot([0, 1, 4], color=previews.ACCENT)
    return previews.png_of(figure)


def test_equal_figures_give_equal_bytes_of_the_requested_size():
    assert plot_of_a_line() == plot_of_a_line()
    assert rgb_of(plot_of_a_line()).shape == (210, 280, 3)


def test_north_is_up_and_missing_pixels_are_white():
    values = np.zeros((20, 30))
    values[18, 3] = 1.0
    values[0, :] = np.nan
    pixels = rgb_of(previews.png_of_pixels(values))
    assert pixels.shape == (20, 30, 3)
    assert np.unravel_index(pixels[:-1].sum(axis=2).argmax(), (19, 30)) == (1, 3)
    assert (pixels[-1] == 255).all()
    figure = previews.canvas(2.0, 2.0, dpi=50)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    previews.show_plane(axes, values, vmin=0.0, vmax=1.0, aspect="auto")
    drawn = rgb_of(previews.png_of(figure))
    assert (drawn[-2] == 255).all()
    assert drawn[7, 12].sum() > drawn[7, 50].sum()


def test_the_pixels_of_a_figure_are_those_of_its_png():
    figure = previews.canvas(4.0, 3.0, dpi=previews.SMALL_DPI, constrained=True)
    figure.add_subplot().plot([0, 1, 4], color=previews.ACCENT)
    pixels = np.asarray(previews.picture_of(figure))
    assert (pixels == rgb_of(previews.png_of(figure))).all()


def test_few_colors_make_a_picture_smaller_and_keep_its_content():
    noise = np.random.default_rng(1).uniform(0, 1, (200, 200))
    full = previews.png_of_pixels(noise)
    with Image.open(BytesIO(full)) as opened:
        picture = opened.convert("RGB")
    few = previews.few_colours(picture, 8)
    assert len(few) < 0.6 * len(full)
    assert len(np.unique(rgb_of(few).reshape(-1, 3), axis=0)) <= 8
    assert np.corrcoef(rgb_of(few).sum(axis=2).ravel(), rgb_of(full).sum(axis=2).ravel())[0, 1] > 0.9
    assert rgb_of(previews.few_colours(picture, 8, 0.5)).shape == (100, 100, 3)


def test_the_best_picture_below_the_limit_is_returned_and_no_more_are_made():
    made = []

    def picture(size: int) -> bytes:
        made.append(size)
        return bytes(size)

    sizes = [previews.LIMIT_BYTES + 1, previews.LIMIT_BYTES, 10]
    assert len(previews.first_below_limit(picture(size) for size in sizes)) == previews.LIMIT_BYTES
    assert made == sizes[:2]
    assert len(previews.first_below_limit([bytes(previews.LIMIT_BYTES + 2), bytes(previews.LIMIT_BYTES + 1)])) == previews.LIMIT_BYTES + 1
    with pytest.raises(ValueError, match="no picture"):
        previews.first_below_limit([])


def test_noise_takes_a_visible_part_of_the_stretch_from_minus_3_to_the_highest_sigma():
    norm = previews.noise_stretch(30.0)
    low, zero, noise, bright = (float(norm(value)) for value in (-3.0, 0.0, 1.0, 30.0))
    assert (low, bright) == pytest.approx((0.0, 1.0))
    assert noise - zero > 3 * (float(norm(30.0)) - float(norm(29.0)))


def test_drawing_does_not_load_pyplot():
    program = (
        "import sys; from dsa110_assets.common import previews; assert 'matplotlib' not in sys.modules; "
        "figure = previews.canvas(2, 2); previews.show_plane(figure.add_subplot(), __import__('numpy').eye(3)); "
        "previews.few_colours(previews.picture_of(figure), 8); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
