"""`dsa110 image` makes products and a verdict from a calibrated Measurement Set, without Dagster or a database."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets import products
from dsa110_assets.cli.main import run
from dsa110_assets_tests.imaging.synthetic_ms import Tile, offset_position, write_tile

FEW = ["--size", "256", "--cell-arcsec", "8"]


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tile, Path]:
    directory = tmp_path_factory.mktemp("image")
    offsets = [(-0.2, -0.2), (0.2, -0.15), (0.0, 0.05), (-0.18, 0.2), (0.2, 0.2), (0.02, -0.2)]
    rows = [(*offset_position(150.0, 54.6, e, n), 0.8, -0.7) for e, n in offsets]
    catalog = directory / "sky.parquet"
    pd.DataFrame(
        {
            "name": [f"s{k}" for k in range(6)],
            "ra_deg": [r[0] for r in rows],
            "dec_deg": [r[1] for r in rows],
            "flux_jy": 0.8,
            "spectral_index": -0.7,
        }
    ).to_parquet(catalog)
    return write_tile(directory / "t.cal.ms", rows, n_antenna=20, n_time=6, n_channel=16), catalog


@pytest.fixture(autouse=True)
def no_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_CORRECT_SMEARING", "false")
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # nothing may connect to it


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    out, err = capsys.readouterr()
    assert out, err
    return json.loads(out)


def test_all_products_appear_and_the_verdict_is_reported(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    code = run(
        ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), "--mask-radius-arcsec", "60", *FEW, "--json"]
    )
    result = answer(capfd)
    assert code == 0, result
    assert result["good"] is True
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"t-{s}.fits" for s in products.IMAGE_SUFFIXES} | {
        "t-preview.png", "t-preview-large.png",
    }  # fmt: skip
    checks = {check["name"]: check for check in result["checks"]}
    assert checks["flux_ratio_to_catalog"]["passed"] is True
    assert checks["completeness"]["value"] == 1.0
    assert result["bright_sources"] == 6


def test_self_calibration_reports_what_it_did(tile: tuple[Tile, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """An option or a setting requests it. Perfect data are left alone."""
    made, catalog = tile
    common = ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), *FEW, "--json"]
    assert run([*common, "--local-rms"]) == 0
    assert answer(capfd)["self_calibration"] == "not requested"
    monkeypatch.setenv("PIPELINE_SELFCAL_ROUNDS", "2")
    assert run(common) == 0
    assert "the data agree with the model" in str(answer(capfd)["self_calibration"])
    assert run([*common, "--selfcal", "1", "--engine", "wsclean"]) == 2
    assert "cannot predict" in capfd.readouterr().err


def test_channels_appear_beside_the_whole_band(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    common = ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), *FEW, "--json"]
    assert run([*common, "--channels", "2", "--spectral-terms", "2"]) == 0
    result = answer(capfd)
    assert result["channels_mhz"] == [1358.1, 1451.9]
    assert {p.name for p in (tmp_path / "out").glob("*.fits")} == {
        f"t-{s}.fits" for s in (*products.IMAGE_SUFFIXES, *products.SPECTRAL_SUFFIXES)
    } | {f"t-ch0{c}-{s}.fits" for c in (0, 1) for s in products.CHANNEL_SUFFIXES}
    assert set(result["files"]) >= {"alpha", "ch01-image-pb"}
    assert all(Path(path).is_file() for path in result["files"].values())


def test_a_wrong_catalog_makes_the_verdict_bad(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    wrong = tmp_path / "wrong.parquet"
    pd.read_parquet(catalog).assign(flux_jy=0.4).to_parquet(wrong)
    assert run(["image", "--ms", str(made.ms), "--imagename", "t", "--catalog", str(wrong), *FEW, "--json"]) == 1
    result = answer(capfd)
    assert result["verdict"] == "refused"
    assert "flux_ratio_to_catalog" in result["bad"]
    assert "times the catalog's" in str(result["reason"])
    assert result["next_step"]
    assert (tmp_path / "t-image.fits").is_file()


def test_weights_taper_and_uv_range_change_the_beam_as_expected(tile: tuple[Tile, Path], capfd: pytest.CaptureFixture[str]):
    made, _ = tile
    common = ["image", "--ms", str(made.ms), "--no-catalog", "--niter", "0", *FEW, "--json"]

    def beam(name: str, *more: str) -> tuple[float, float]:
        run([*common, "--imagename", name, *more])
        result = answer(capfd)
        return result["beam_arcsec"][1], result["thermal_mjy_per_beam"]

    briggs, natural, uniform = beam("b"), beam("n", "--weighting", "natural"), beam("u", "--weighting", "uniform")
    assert uniform[0] < briggs[0] < natural[0]
    assert natural[1] < briggs[1] < uniform[1]
    tapered = beam("t", "--taper-arcsec", "60")
    assert tapered[0] > 60
    # without long baselines the beam cannot be narrower than this
    short = beam("s", "--uv-max", "2000")
    assert short[0] > max(0.5 * 206265 / 2000, 1.2 * briggs[0])
    assert "taper 60 arcsec" in str(fits.getheader("t-image.fits")["HISTORY"])


def test_components_lie_inside_the_given_mask(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, _ = tile
    run(["image", "--ms", str(made.ms), "--imagename", "dirty", "--no-catalog", "--niter", "0", *FEW])
    dirty = fits.open("dirty-image.fits")[0]
    peak = np.unravel_index(dirty.data[0, 0].argmax(), (256, 256))
    mask = np.zeros_like(dirty.data)
    mask[0, 0, peak[0] - 8 : peak[0] + 9, peak[1] - 8 : peak[1] + 9] = 1
    fits.PrimaryHDU(mask, dirty.header).writeto("mask.fits")
    # few iterations, so that all fit inside the mask
    run(["image", "--ms", str(made.ms), "--imagename", "m", "--no-catalog", "--mask", "mask.fits", "--multiscale", "--niter", "20", *FEW])
    model = fits.getdata("m-model.fits")
    assert model.any()
    assert not model[mask == 0].any()
    other = fits.PrimaryHDU(mask[..., :100, :100], dirty.header)
    other.writeto("small.fits")
    assert run(["image", "--ms", str(made.ms), "--imagename", "x", "--no-catalog", "--mask", "small.fits", *FEW]) == 2
    assert "make the mask from an image of this tile" in capfd.readouterr().err
    assert not list(tmp_path.glob("x-*"))


def test_a_missing_measurement_set_is_reported_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert run(["image", "--ms", "none.ms", "--imagename", "x/y", "--no-catalog"]) == 2
    assert "not a Measurement Set" in capfd.readouterr().err
    assert not list((tmp_path / "x").iterdir())
