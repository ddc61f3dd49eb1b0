"""Pitfall 4: programs read different directions of the FIELD table; all three must be the phase center."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.conversion import convert_observation, verify_ms
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets_tests.conversion.minimal_raw import write_raw


def test_pitfall_04_phase_reference_and_delay_direction_are_one_icrs_direction(tmp_path: Path) -> None:
    from casacore.tables import table

    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.953)
    report = convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    columns = ("PHASE_DIR", "REFERENCE_DIR", "DELAY_DIR")
    with table(str(tmp_path / "a.ms::FIELD"), ack=False) as field:
        assert field.nrows() == 1
        for column in columns:
            assert field.getcolkeyword(column, "MEASINFO")["Ref"] == "ICRS"
            assert field.getcell(column, 0).shape == (1, 2)
            ra, dec = np.degrees(field.getcell(column, 0)[0])
            assert ra % 360 == pytest.approx(report.phase_ra_deg, abs=1e-11)
            assert dec == pytest.approx(report.phase_dec_deg, abs=1e-11)

    for column in columns:  # verification refuses a Measurement Set in which one differs
        broken = Path(shutil.copytree(tmp_path / "a.ms", tmp_path / f"{column}.ms"))
        with table(str(broken / "FIELD"), readonly=False, ack=False) as field:
            field.putcell(column, 0, field.getcell(column, 0) + 1e-5)
        with pytest.raises(ProductVerificationError, match="pitfall 4"):
            verify_ms(broken, report)
