"""`dsa110 image`: a calibrated set in, products and a verdict out, without Dagster and without a database."""

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
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # nothing may ask it


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    out, err = capsys.readouterr()
    assert out, err
    return json.loads(out)


def test_all_products_appear_and_the_verdict_is_told(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    code = run(
        ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), "--mask-radius-arcsec", "60", *FEW, "--json"]
    )
    told = answer(capfd)
    assert code == 0, told
    assert told["good"] is True
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"t-{s}.fits" for s in products.IMAGE_SUFFIXES} | {
        "t-preview.png", "t-preview-large.png",
    }  # fmt: skip
    checks = {check["name"]: check for check in told["checks"]}
    assert checks["flux_ratio_to_catalog"]["passed"] is True
    assert checks["completeness"]["value"] == 1.0
    assert told["bright_sources"] == 6


def test_self_calibration_tells_what_it_did(tile: tuple[Tile, Path], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Asked for on the command line or by the configuration; perfect data are left alone."""
    made, catalog = tile
    common = ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), *FEW, "--json"]
    assert run([*common, "--local-rms"]) == 0
    assert answer(capfd)["self_calibration"] == "not asked for"
    monkeypatch.setenv("PIPELINE_SELFCAL_ROUNDS", "2")
    assert run(common) == 0
    assert "the data agree with the model" in str(answer(capfd)["self_calibration"])
    assert run([*common, "--selfcal", "1", "--engine", "wsclean"]) == 2
    assert "cannot predict" in capfd.readouterr().err


def test_channels_appear_beside_the_whole_band(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    common = ["image", "--ms", str(made.ms), "--imagename", "out/t", "--catalog", str(catalog), *FEW, "--json"]
    assert run([*common, "--channels", "2", "--spectral-terms", "2"]) == 0
    told = answer(capfd)
    assert told["channels_mhz"] == [1358.1, 1451.9]
    assert {p.name for p in (tmp_path / "out").glob("*.fits")} == {
        f"t-{s}.fits" for s in (*products.IMAGE_SUFFIXES, *products.SPECTRAL_SUFFIXES)
    } | {f"t-ch0{c}-{s}.fits" for c in (0, 1) for s in products.CHANNEL_SUFFIXES}
    assert set(told["files"]) >= {"alpha", "ch01-image-pb"}
    assert all(Path(path).is_file() for path in told["files"].values())


def test_a_catalogue_that_is_wrong_makes_the_answer_no(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, catalog = tile
    wrong = tmp_path / "wrong.parquet"
    pd.read_parquet(catalog).assign(flux_jy=0.4).to_parquet(wrong)
    assert run(["image", "--ms", str(made.ms), "--imagename", "t", "--catalog", str(wrong), *FEW, "--json"]) == 1
    told = answer(capfd)
    assert told["verdict"] == "refused"
    assert "flux_ratio_to_catalog" in told["bad"]
    assert "times the catalogue's" in str(told["reason"])
    assert told["next_step"]
    assert (tmp_path / "t-image.fits").is_file()


def test_weights_taper_and_uv_range_change_the_beam_as_they_should(tile: tuple[Tile, Path], capfd: pytest.CaptureFixture[str]):
    made, _ = tile
    common = ["image", "--ms", str(made.ms), "--no-catalog", "--niter", "0", *FEW, "--json"]

    def beam(name: str, *more: str) -> tuple[float, float]:
        run([*common, "--imagename", name, *more])
        told = answer(capfd)
        return told["beam_arcsec"][1], told["thermal_mjy_per_beam"]

    briggs, natural, uniform = beam("b"), beam("n", "--weighting", "natural"), beam("u", "--weighting", "uniform")
    assert uniform[0] < briggs[0] < natural[0]
    assert natural[1] < briggs[1] < uniform[1]
    tapered = beam("t", "--taper-arcsec", "60")
    assert tapered[0] > 60
    # no image without long baselines resolves more than they do
    short = beam("s", "--uv-max", "2000")
    assert short[0] > max(0.5 * 206265 / 2000, 1.2 * briggs[0])
    assert "taper 60 arcsec" in str(fits.getheader("t-image.fits")["HISTORY"])


def test_a_mask_of_ones_own_is_where_cleaning_happens(tile: tuple[Tile, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    made, _ = tile
    run(["image", "--ms", str(made.ms), "--imagename", "dirty", "--no-catalog", "--niter", "0", *FEW])
    dirty = fits.open("dirty-image.fits")[0]
    peak = np.unravel_index(dirty.data[0, 0].argmax(), (256, 256))
    mask = np.zeros_like(dirty.data)
    mask[0, 0, peak[0] - 8 : peak[0] + 9, peak[1] - 8 : peak[1] + 9] = 1
    fits.PrimaryHDU(mask, dirty.header).writeto("mask.fits")
    # few iterations: all are spent inside the mask
    run(["image", "--ms", str(made.ms), "--imagename", "m", "--no-catalog", "--mask", "mask.fits", "--multiscale", "--niter", "20", *FEW])
    model = fits.getdata("m-model.fits")
    assert model.any()
    assert not model[mask == 0].any()
    other = fits.PrimaryHDU(mask[..., :100, :100], dirty.header)
    other.writeto("small.fits")
    assert run(["image", "--ms", str(made.ms), "--imagename", "x", "--no-catalog", "--mask", "small.fits", *FEW]) == 2
    assert "make the mask from an image of this tile" in capfd.readouterr().err
    assert not list(tmp_path.glob("x-*"))


def test_a_missing_set_is_said_and_leaves_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert run(["image", "--ms", "none.ms", "--imagename", "x/y", "--no-catalog"]) == 2
    assert "not a Measurement Set" in capfd.readouterr().err
    assert not list((tmp_path / "x").iterdir())
