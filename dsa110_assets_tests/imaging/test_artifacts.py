"""Artifacts of a bad calibration are not sources: real VLA data with a turned antenna, and simulated phase errors."""

from __future__ import annotations

import shutil
from pathlib import Path

import casadata
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.casa_child import run_tasks
from dsa110_assets.calibration.solve import solve
from dsa110_assets.conversion.foreign import adopt
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.quality.gate import verdict_on
from dsa110_assets.quality.image import judge_tile, read_tile
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile

NGC5921 = Path(casadata.__path__[0]) / "__data__" / "demo" / "NGC5921.fits"
STAR = pd.DataFrame({"name": ["3C286"], "ra_deg": [202.784535], "dec_deg": [30.509155], "flux_jy": [14.97], "spectral_index": [-0.47]})
TURNED = "6"


def image(ms: Path, out: Path, options: ImagingOptions, sky: pd.DataFrame | None = None) -> ImageReport:
    out.mkdir(exist_ok=True)
    return image_tile(ms, out, "t", options, mask_sky=sky, provenance={})


def turn(ms: Path, phase_deg: np.ndarray) -> None:
    """Turn the phases of the antennas."""
    with table(str(ms), readonly=False, ack=False) as main:
        phase = np.radians(phase_deg)
        turned = np.exp(1j * (phase[main.getcol("ANTENNA1")] - phase[main.getcol("ANTENNA2")]))
        main.putcol("DATA", (main.getcol("DATA") * turned[:, None, None]).astype(np.complex64))


def half(ms: Path, out: Path, *, second: bool) -> Path:
    """The first or the second half of the integrations."""
    with table(str(ms), ack=False) as main:
        times = np.unique(main.getcol("TIME"))
        main.query(f"TIME {'>=' if second else '<'} {float(times[times.size // 2])!r}").copy(str(out), deep=True).close()
    return out


@pytest.fixture(scope="module")
def vla(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second half of the VLA's data of 3C286, one antenna turned, with the tables of the first half applied."""
    directory = tmp_path_factory.mktemp("vla")
    run_tasks([("importuvfits", {"fitsfile": str(NGC5921), "vis": str(directory / "n.ms")})], work_dir=directory, timeout_s=200)
    star = adopt(directory / "n.ms", directory / "star.ms", field_name="0").out
    first, second = half(star, directory / "first.ms", second=False), half(star, directory / "second.ms", second=True)
    with table(f"{second}/ANTENNA", ack=False) as antenna:
        names = list(antenna.getcol("NAME"))
    turn(second, np.where(np.array(names) == TURNED, 44.0, 0.0))
    solved = solve(first, directory / "tables", sky=STAR, refant="15", must_have_refant=True)
    assert solved.accepted
    apply_calibration(second, solved.tables, directory / "star.cal.ms")
    return directory / "star.cal.ms"


@pytest.mark.fresh_interpreter
@pytest.mark.parametrize("cataloged", [True, False])
def test_a_turned_antenna_of_the_vla_is_named_and_takes_no_flux(vla: Path, tmp_path: Path, cataloged: bool) -> None:
    report = image(vla, tmp_path / "out", ImagingOptions(image_size=512, cell_arcsec=15.0), STAR if cataloged else None)
    assert report.antennas_left_out == (TURNED,)
    assert report.peak_jy_per_beam == pytest.approx(14.97 * report.pb_centre, rel=0.01)
    assert report.noise_jy_per_beam < 1.6 * report.thermal_jy_per_beam
    verdict = next(one for one in judge_tile(read_tile(tmp_path / "out", "t"), None) if one.name == "wrong_antennas")
    assert verdict.passed
    assert f"left out: {TURNED}" in verdict.reason


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of 5 Jy, and one of 0.3 Jy."""
    sources = [(*offset_position(150.0, 54.6, east, north), flux, -0.7) for east, north, flux in ((0.05, 0.1, 5.0), (-0.4, 0.3, 0.3))]
    return write_tile(tmp_path_factory.mktemp("two") / "t.ms", sources, n_antenna=24, n_time=8, n_channel=16).ms


OPTIONS = ImagingOptions(image_size=512, cell_arcsec=8.0, correct_smearing=False)


def test_phase_errors_of_all_antennas_make_no_bright_sources(two_sources: Path, tmp_path: Path) -> None:
    """Artifacts stay in the residual, so that they take no flux from the source that makes them."""
    ms = tmp_path / "phases.ms"
    shutil.copytree(two_sources, ms)
    turn(ms, np.random.default_rng(3).normal(0, 15, 24))
    report = image(ms, tmp_path / "out", OPTIONS)
    assert report.noise_jy_per_beam > 2 * report.thermal_jy_per_beam
    assert report.bright_sources <= 2
    dirty, restored = (fits.getdata(report.images[kind]).max() for kind in ("dirty", "image"))
    assert restored > 0.97 * dirty


def test_antennas_with_wrong_gains_refuse_the_tile_with_their_names(two_sources: Path, tmp_path: Path) -> None:
    """Four of 24 are too many to be left out."""
    ms = tmp_path / "four.ms"
    shutil.copytree(two_sources, ms)
    phases = np.zeros(24)
    phases[[3, 9, 14, 20]] = 50.0, -60.0, 70.0, -80.0
    turn(ms, phases)
    report = image(ms, tmp_path / "out", OPTIONS)
    assert report.antennas_left_out == ()
    verdict = verdict_on(judge_tile(read_tile(tmp_path / "out", "t"), None))
    assert verdict.bad[0] == "wrong_antennas"
    assert "calibration" in verdict.next_step
    reason = next(one.reason for one in judge_tile(read_tile(tmp_path / "out", "t"), None) if one.name == "wrong_antennas")
    assert reason == "wrong: 4, 10, 15, 21"  # names count from 1


def test_a_right_calibration_names_no_antenna_and_keeps_faint_unknown_sources(two_sources: Path, tmp_path: Path) -> None:
    report = image(two_sources, tmp_path / "out", OPTIONS)
    assert report.bright_sources == 2
    assert report.antennas_left_out == ()
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.1)
    verdict = next(one for one in judge_tile(read_tile(tmp_path / "out", "t"), None) if one.name == "wrong_antennas")
    assert (verdict.value, verdict.passed) == (0.0, True)
