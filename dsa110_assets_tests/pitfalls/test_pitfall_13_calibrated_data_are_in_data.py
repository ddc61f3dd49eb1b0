"""Pitfall 13: CORRECTED_DATA absent or zero, and DATA used instead. A calibrated tile has only DATA, and a mark."""

import json

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.solve import solve
from dsa110_assets.common.measurement_sets import CALIBRATED_KEYWORD
from dsa110_assets.errors import CalibrationQualityError, ConfigurationError
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pitfall13")
    sky = source_frame([("a", 128.7, 55.5, 10.0, 0.0)])
    tile = write_small_ms(directory / "tile.ms", sky, n_ant=6, n_chan=4, n_time=1)
    report = solve(tile.path, directory / "tables", sky=sky, smearing=False)
    return tile, [report.bandpass, report.gain]


def test_pitfall_13_calibrated_data_are_in_data_and_marked(made, tmp_path):
    tile, tables = made
    apply_calibration(tile.path, tables, tmp_path / "out.ms", chan_avg=1, provenance={"code": "1"})
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        record = json.loads(ms.getkeyword(CALIBRATED_KEYWORD))
        assert "CORRECTED_DATA" not in ms.colnames()
        assert np.median(np.abs(ms.getcol("DATA"))) == pytest.approx(10.0, rel=0.01)
        assert np.all(ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2"))
    assert record["caltables"] == [str(t) for t in tables]
    assert record["channels_averaged"] == 1
    assert record["provenance"] == {"code": "1"}
    with table(str(tile.path), ack=False) as ms:
        assert CALIBRATED_KEYWORD not in ms.getkeywords()


def test_pitfall_13_a_result_without_data_is_an_error(made, tmp_path):
    tile, tables = made
    import shutil

    shutil.copytree(tables[1], tmp_path / "dead.cal")
    with table(str(tmp_path / "dead.cal"), readonly=False, ack=False) as gain:
        gain.putcol("FLAG", np.ones_like(gain.getcol("FLAG")))
    with pytest.raises(CalibrationQualityError, match="flagged or zero"):
        apply_calibration(tile.path, [tables[0], tmp_path / "dead.cal"], tmp_path / "a.ms")
    shutil.copytree(tile.path, tmp_path / "zero.ms")
    with table(str(tmp_path / "zero.ms"), readonly=False, ack=False) as ms:
        ms.putcol("DATA", np.zeros_like(ms.getcol("DATA")))
    with pytest.raises(CalibrationQualityError, match="flagged or zero"):
        apply_calibration(tmp_path / "zero.ms", tables, tmp_path / "b.ms")


def test_pitfall_13_no_tables_is_an_error(made, tmp_path):
    with pytest.raises(ConfigurationError, match="no calibration tables"):
        apply_calibration(made[0].path, [], tmp_path / "out.ms")
