"""Every table gets its plots, small enough for the UI."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dsa110_assets.calibration.plots import plot_solutions
from dsa110_assets.common.previews import LIMIT_BYTES
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets_tests.reference_data import reference_data, unpack


def count_colors(png: Path) -> int:
    return len(np.unique(np.asarray(Image.open(png).convert("RGB")).reshape(-1, 3), axis=0))


def test_every_table_gets_its_plots_and_the_asset_shows_them(solved):
    plots = solved.report.plots
    assert list(plots) == [
        "bandpass: amplitude per antenna", "bandpass: phase per antenna", "bandpass: flags", "gain: against time", "gain: flags",
    ]  # fmt: skip
    for png in plots.values():
        assert png.stat().st_size <= LIMIT_BYTES
        assert count_colors(png) > 3
    result = StageResult(
        "calibration_tables", "x", preview=plots["bandpass: flags"], pictures={k: v for k, v in plots.items() if "flags" not in k}
    )
    shown = metadata_of([result])
    for title in ("preview", "bandpass: amplitude per antenna", "gain: against time"):
        assert str(shown[title].value).startswith("![preview](data:image/png;base64,")


def test_a_dead_receptor_shows_in_the_map_of_flags(solved):
    """Antenna 109's Y receptor is dead: one of ten rows is black in the right map, none in the left."""
    picture = np.asarray(Image.open(solved.report.plots["bandpass: flags"]).convert("L"))
    half = picture.shape[1] // 2
    left, right = ((part < 40).mean() for part in (picture[100:-100, 140:half], picture[100:-100, half + 40 : -130]))
    assert right - left > 0.05
    assert right < 0.2


def test_the_real_bandpass_fits_into_the_ui(tmp_path):
    path = unpack(reference_data("caltables/2025-10-13T13-28-03_all_bpcal.tar.gz"), tmp_path)
    (tmp_path / "plots").mkdir()
    for png in plot_solutions([path], tmp_path / "plots").values():
        assert png.stat().st_size <= LIMIT_BYTES


@pytest.fixture(autouse=True)
def _quiet(recwarn):
    """Plots of flagged data must not warn (mean of an empty slice)."""
    yield
    assert [str(w.message) for w in recwarn if "dsa110_assets" in w.filename] == []
