"""Pitfall 12: reference antenna "103" is a name; its number is 102, and number 103 is another antenna."""

import numpy as np
from casacore.tables import table

from dsa110_assets.calibration.solve import solve
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms


def test_pitfall_12_phases_refer_to_the_antenna_with_this_name(tmp_path):
    sky = source_frame([("a", 128.7, 55.5, 10.0, 0.0)])
    tile = write_small_ms(tmp_path / "tile.ms", sky, n_ant=6, n_chan=4, n_time=1)  # numbers 100 to 105 include both
    report = solve(tile.path, tmp_path / "tables", sky=sky, refant="103", smearing=False)
    assert report.refant == "103"
    for path in (report.bandpass, report.gain):
        with table(str(path), ack=False) as solutions, table(f"{path}::ANTENNA", ack=False) as antenna:
            assert set(solutions.getcol("ANTENNA2")) == {102}
            assert antenna.getcell("NAME", 102) == "103"
            phase = np.angle(solutions.getcol("CPARAM"))
            assert np.abs(phase[102]).max() < 1e-5
            assert np.abs(phase[103]).max() > 0.01 or path == report.bandpass
