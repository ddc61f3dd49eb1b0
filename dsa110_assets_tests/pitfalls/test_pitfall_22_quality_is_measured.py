"""Pitfall 22: a quality figure is measured from the product; one that cannot be measured is never a pass."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.quality.image import TilePlanes, Verdict, judge_tile, read_tile


def planes(image: np.ndarray, *, thermal: float | None = 1e-3, beam: bool = True) -> TilePlanes:
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---SIN", "DEC--SIN"
    header["CRVAL1"], header["CRVAL2"], header["CRPIX1"], header["CRPIX2"] = 150.0, 30.0, 129.0, 129.0
    header["CDELT1"], header["CDELT2"] = -5 / 3600, 5 / 3600
    if beam:
        header["BMAJ"], header["BMIN"], header["BPA"] = 20 / 3600, 15 / 3600, 0.0
    if thermal is not None:
        header["DSATHERM"] = thermal
    return TilePlanes(image, image.copy(), np.ones_like(image), header)


def by_name(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts}


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1e-3, (256, 256)).astype(np.float32)


def test_pitfall_22_an_empty_image_passes_no_check():
    empty = np.full((256, 256), np.nan, dtype=np.float32)
    verdicts = judge_tile(planes(empty, thermal=None, beam=False), None)
    assert {v.passed for v in verdicts} == {None}
    assert all(v.value is None and v.reason for v in verdicts)


def test_pitfall_22_an_image_of_zeros_gets_no_verdict_on_noise():
    verdicts = by_name(judge_tile(planes(np.zeros((256, 256), dtype=np.float32)), None))
    assert verdicts["noise_over_thermal"].passed is None
    assert verdicts["dynamic_range"].passed is None


def test_pitfall_22_too_few_sources_give_no_verdict_on_positions():
    sky = pd.DataFrame({"ra_deg": [150.0], "dec_deg": [30.0], "flux_jy": [1.0]})
    verdicts = by_name(judge_tile(planes(noise()), sky))
    for name in ("flux_ratio_to_catalog", "position_offset_arcsec"):
        assert verdicts[name].passed is None
        assert "1 isolated" in verdicts[name].reason


@pytest.mark.parametrize("shift_arcsec", [0.0, 4.7])
@pytest.mark.parametrize("scale", [1.0, 0.06])
def test_pitfall_22_the_figures_follow_the_image(shift_arcsec: float, scale: float):
    """The figures show the shift of a wrong site (pitfall 3) and the scale of a wrong calibration (pitfall 14)."""
    image = noise(1)
    y, x = np.mgrid[:256, :256]
    rows = []
    for k in range(9):
        row, column = 40.3 + 80 * (k // 3), 40.7 + 80 * (k % 3)
        dy, dx = (y - row) * 5, (x - column - shift_arcsec / 5) * 5
        image += (scale * np.exp(-4 * np.log(2) * ((dy / 20) ** 2 + (dx / 15) ** 2))).astype(np.float32)
        l, m = np.radians(-(column - 128) * 5 / 3600), np.radians((row - 128) * 5 / 3600)  # noqa: E741
        n = np.sqrt(1 - l * l - m * m)
        dec = np.arcsin(m * np.cos(np.radians(30)) + n * np.sin(np.radians(30)))
        ra = np.radians(150) + np.arctan2(l, n * np.cos(np.radians(30)) - m * np.sin(np.radians(30)))
        rows.append((np.degrees(ra), np.degrees(dec), 1.0))
    verdicts = by_name(judge_tile(planes(image), pd.DataFrame(rows, columns=["ra_deg", "dec_deg", "flux_jy"])))
    ratio, offset = verdicts["flux_ratio_to_catalog"], verdicts["position_offset_arcsec"]
    assert ratio.value == pytest.approx(scale, rel=0.01)
    assert ratio.passed is (scale == 1.0)
    assert offset.value == pytest.approx(shift_arcsec, abs=0.2)
    assert offset.passed is (shift_arcsec == 0.0)


def test_pitfall_22_a_missing_product_is_an_error_not_a_verdict(tmp_path):
    with pytest.raises(ProductVerificationError, match="does not exist"):
        read_tile(tmp_path, "nothing")
