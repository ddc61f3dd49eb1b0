"""Solved delays equal the true ones, and tables with delays give the true gains."""

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.calibration.quality import MAX_DELAY_NS, assess
from dsa110_assets.calibration.solve import solve, tables_in
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms

SKY = [("a", 128.75, 55.45, 12.0, 0.0)]
DELAY_NS = np.array([0.0, 2.0, 0.0, -3.0, 4.0, -1.0, 1.0, 3.0])


@pytest.fixture(scope="module")
def delayed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("delays")
    sky = source_frame(SKY)
    tile = write_small_ms(directory / "tile.ms", sky, n_ant=8, n_chan=16, n_time=2, noise=0.02, channel_hz=24 * 244140.625)
    delay = np.zeros(117)
    delay[100:108] = DELAY_NS
    turn = np.exp(2e-9j * np.pi * delay[:, None] * (tile.frequency_hz - tile.frequency_hz.mean()))
    with table(str(tile.path), readonly=False, ack=False) as ms:
        ms.putcol("DATA", ms.getcol("DATA") * (turn[ms.getcol("ANTENNA1")] * turn[ms.getcol("ANTENNA2")].conj())[:, :, None])
    seen = []
    report = solve(
        tile.path,
        directory / "tables",
        sky=sky,
        do_delay=True,
        smearing=False,
        progress=lambda what, fraction: seen.append((what, fraction)),
    )
    return tile, report, seen


def test_delays_are_found(delayed):
    tile, report, _ = delayed
    delays = read_caltable(report.delay)
    assert delays.is_delay
    phase = np.unwrap(np.angle(tile.gain[100:108]), axis=1)  # the tile's own gains also have slopes
    own_ns = (phase[:, -1] - phase[:, 0]) / (2e-9 * np.pi * np.ptp(tile.frequency_hz))
    truth = DELAY_NS[:, None] + own_ns
    assert np.abs(delays.delay_ns[0, 100:108] - (truth - truth[2])).max() < 0.1  # relative to antenna 103
    assert report.quality["delay.cal"].largest_delay_ns == pytest.approx(np.abs(truth - truth[2]).max(), abs=0.1)
    assert report.accepted


def test_delays_bandpass_and_gains_together_calibrate_the_data(delayed, tmp_path):
    tile, report, _ = delayed
    assert tables_in(report.delay.parent) == report.tables == [report.delay, report.bandpass, report.gain]
    apply_calibration(tile.path, report.tables, tmp_path / "out.ms", chan_avg=1)
    with table(str(tile.path), ack=False) as ms:
        model = tile.model[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")]
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        ratio = ms.getcol("DATA").mean(axis=2) / model
    assert np.abs(ratio - 1).max() < 0.02  # noise of one visibility: 0.02 of 12 Jy
    assert np.abs(ratio.mean() - 1) < 1e-3


def test_absurd_delays_are_refused(delayed, tmp_path):
    import shutil

    shutil.copytree(delayed[1].delay, tmp_path / "delay.cal")
    with table(str(tmp_path / "delay.cal"), readonly=False, ack=False) as delays:
        value = delays.getcol("FPARAM")
        value[101] = MAX_DELAY_NS * 3
        delays.putcol("FPARAM", value)
    quality = assess(tmp_path / "delay.cal", in_data=[str(n) for n in range(101, 109)])
    assert not quality.accepted
    assert "largest delay is 60.0 ns" in quality.reasons[0]


def test_progress_runs_from_0_to_1_and_names_the_steps(delayed):
    steps, fractions = zip(*delayed[2], strict=True)
    assert list(fractions) == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"averaging data and model", "solving: delay", "quality and plots"} <= set(steps)
