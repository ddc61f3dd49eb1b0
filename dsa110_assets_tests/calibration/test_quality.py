"""Real tables: the good one is accepted with its recorded figures, junk is refused with the reason."""

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.quality import assess
from dsa110_assets.errors import NonRetriableError
from dsa110_assets_tests.reference_data import reference_data, unpack


@pytest.fixture
def unpacked(tmp_path):
    return lambda name: unpack(reference_data(f"caltables/{name}"), tmp_path)


def test_the_real_bandpass_is_accepted(unpacked):
    quality = assess(unpacked("2025-10-13T13-28-03_all_bpcal.tar.gz"))
    assert quality.accepted, quality.reasons
    assert quality.flagged_fraction == pytest.approx(0.2942, abs=1e-4)
    assert len(quality.dead_antennas) == 25
    assert set(quality.dead_antennas) - set(quality.dead_inactive) == {"110", "111", "112", "113"}
    assert quality.dead_receptors == 53
    assert quality.refant == "103"
    assert len(quality.flagged_per_channel) == 768


def test_the_real_gains_are_accepted(unpacked):
    quality = assess(unpacked("2025-10-13T13-28-03_all_gpcal.tar.gz"))
    assert quality.accepted, quality.reasons
    assert quality.phase_step_deg is None


@pytest.mark.parametrize("name", ["test_calibration_bandpass.table.tar.gz", "test_calibration_final_gain.table.tar.gz"])
def test_junk_is_refused(unpacked, name):
    quality = assess(unpacked(name))
    assert not quality.accepted
    assert any("S/N" in reason for reason in quality.reasons)


def test_random_phases_are_distinguished_from_solutions(unpacked):
    """Independent random phases differ by 104 deg rms: pi / sqrt(3)."""
    quality = assess(unpacked("test_calibration_bandpass.table.tar.gz"))
    assert quality.phase_step_deg == pytest.approx(np.degrees(np.pi / np.sqrt(3)), abs=5)


def test_a_table_that_lost_most_solutions_is_refused(solved, tmp_path):
    import shutil

    shutil.copytree(solved.report.bandpass, tmp_path / "b.cal")
    antennas = [str(n) for n in range(101, 111)]
    assert assess(tmp_path / "b.cal", in_data=antennas).accepted
    with table(str(tmp_path / "b.cal"), readonly=False, ack=False) as bandpass:
        flag = bandpass.getcol("FLAG")
        flag[100:107] = True
        bandpass.putcol("FLAG", flag)
    quality = assess(tmp_path / "b.cal", in_data=antennas)
    assert not quality.accepted
    assert quality.flagged_fraction_active == pytest.approx(0.75)  # includes the dead receptor
    assert any("75 %" in reason for reason in quality.reasons)
    assert any("only 3 antennas" in reason for reason in quality.reasons)


def test_what_is_not_a_calibration_table_is_an_error(tmp_path, solved):
    with pytest.raises(NonRetriableError, match="cannot be opened"):
        assess(tmp_path / "absent.cal")
    with pytest.raises(NonRetriableError, match="complex gains"):
        assess(solved.tile.path)
