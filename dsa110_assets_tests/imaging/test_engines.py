"""The engines agree with each other; CASA's tclean and WSClean are independent programs."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.errors import ChildFailedError, ImagingError
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.imaging.restoring import fit_beam
from dsa110_assets.imaging.wsclean import find_wsclean
from dsa110_assets.quality.image import TilePlanes, compare_with_catalog, read_tile
from dsa110_assets_tests.imaging.synthetic_ms import Tile, offset_position, write_tile

SOURCES = [(0.02, 0.03, 0.8), (0.16, 0.1, 1.0), (-0.15, 0.12, 0.6)]


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Tile:
    rows = [(*offset_position(150.0, 54.6, e, n), f, 0.0) for e, n, f in SOURCES]
    return write_tile(tmp_path_factory.mktemp("engines") / "t.ms", rows, n_antenna=20, n_time=4, n_channel=8, drift_beam=False)


def run(tile: Tile, out: Path, engine: str, robust: float = 0.5, **more: object) -> ImageReport:
    out.mkdir()
    options = ImagingOptions(engine=engine, image_size=256, cell_arcsec=6.0, briggs_robust=robust, correct_smearing=False, **more)
    return image_tile(tile.ms, out, engine, options, mask_sky=None, provenance={})


def plane(report: ImageReport, suffix: str) -> np.ndarray:
    return fits.getdata(report.images[suffix])[0, 0].astype(float)


def fluxes(report: ImageReport) -> np.ndarray:
    """Ratio of fitted to true apparent fluxes."""
    planes = read_tile(report.preview.parent, report.engine)
    flat = TilePlanes(planes.image, planes.residual, np.ones_like(planes.image), planes.header)
    rows = [(*offset_position(150.0, 54.6, e, n), f) for e, n, f in SOURCES]
    found = compare_with_catalog(flat, pd.DataFrame(rows, columns=["ra_deg", "dec_deg", "flux_jy"]), report.noise_jy_per_beam)
    assert found.flux_ratio.size == len(SOURCES)
    return found.flux_ratio


def test_tclean_and_the_default_engine_agree(tile: Tile, tmp_path):
    own, other = run(tile, tmp_path / "own", "wgridder"), run(tile, tmp_path / "out", "wproject")
    assert fluxes(own) == pytest.approx(1.0, abs=0.02)
    assert fluxes(other) == pytest.approx(1.0, abs=0.03)
    # CASA places its uv cells differently, so individual weights differ
    assert np.corrcoef(plane(own, "dirty").ravel(), plane(other, "dirty").ravel())[0, 1] > 0.94
    assert np.argmax(plane(own, "image")) == np.argmax(plane(other, "image"))
    # the same PSF, fitted by CASA and here
    mine = fit_beam(plane(other, "psf").astype(np.float32), 6.0)
    assert mine.major_arcsec == pytest.approx(other.beam.major_arcsec, rel=0.03)
    assert mine.minor_arcsec == pytest.approx(other.beam.minor_arcsec, rel=0.03)
    assert abs((mine.pa_deg - other.beam.pa_deg + 90) % 180 - 90) < 3.0
    assert other.minor_iterations > 0


@pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is an optional engine and is not installed here")
def test_wsclean_and_the_default_engine_agree(tile: Tile, tmp_path):
    other = run(tile, tmp_path / "briggs", "wsclean")
    assert fluxes(other) == pytest.approx(1.0, abs=0.03)
    own, other = (
        run(tile, tmp_path / "own", "wgridder", robust=3.0, niter=0),
        run(tile, tmp_path / "natural", "wsclean", robust=3.0, niter=0),
    )
    for suffix in ("psf", "dirty"):
        mine, theirs = plane(own, suffix)[8:-8, 8:-8], plane(other, suffix)[8:-8, 8:-8]
        assert np.abs(mine - theirs).max() < 0.02
        assert (mine - theirs).std() < 0.002
    assert other.beam.major_arcsec == pytest.approx(own.beam.major_arcsec, rel=1e-3)


def test_a_missing_wsclean_raises_an_error(tile: Tile, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImagingError, match="not on PATH"):
        run(tile, tmp_path / "out", "wsclean")


def test_a_child_that_takes_too_long_is_killed(tile: Tile, tmp_path):
    with pytest.raises(ChildFailedError, match="did not end within"):
        run(tile, tmp_path / "out", "wproject", child_timeout_s=0.5)


def test_the_output_of_a_failed_child_is_in_the_error(tile: Tile, tmp_path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "wsclean"
    program.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo "WSClean version 3"; exit 0; fi\necho "out of antennas"; exit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_wsclean() == str(program)
    with pytest.raises(ChildFailedError, match="ended with code 3: out of antennas"):
        run(tile, tmp_path / "out", "wsclean")
