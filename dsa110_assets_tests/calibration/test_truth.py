"""From raw files to calibrated Jy: solutions equal the simulated gains, and the sky has its fluxes and noise."""

import numpy as np
import pandas as pd
import pytest
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.calibration.model import predict_model
from dsa110_assets.calibration.solve import solve
from dsa110_assets.conversion import convert_observation


@pytest.fixture(scope="module")
def calibrated(tiny_raw_tile, tmp_path_factory):
    directory = tmp_path_factory.mktemp("truth")
    raw = tiny_raw_tile
    convert_observation(dict(enumerate(raw.files)), directory / "tile.ms", flag_rfi=False)
    sky = pd.DataFrame(
        {
            "name": raw.sky.names,
            "ra_deg": raw.sky.ra_deg,
            "dec_deg": raw.sky.dec_deg,
            "flux_jy": raw.sky.flux_jy,
            "spectral_index": raw.sky.spectral_index,
        }
    )
    report = solve(directory / "tile.ms", directory / "tables", sky=sky, smearing=False)
    apply_calibration(directory / "tile.ms", [report.bandpass, report.gain], directory / "cal.ms", sefd_jy=raw.sefd_jy, chan_avg=1)
    predict_model(directory / "cal.ms", sky, smearing=False)
    with table(str(directory / "cal.ms"), ack=False) as ms:
        columns = {name: ms.getcol(name) for name in ("DATA", "MODEL_DATA", "FLAG", "WEIGHT_SPECTRUM")}
    return report, columns


def test_simulated_gains_are_found_within_a_percent(calibrated, tiny_raw_tile):
    report, _ = calibrated
    assert report.accepted, report.quality
    bandpass, gain = read_caltable(report.bandpass), read_caltable(report.gain)
    numbers = sorted(tiny_raw_tile.array.antenna_order)
    truth = tiny_raw_tile.receivers.gains(tuple(numbers), bandpass.frequency_hz, np.array([tiny_raw_tile.start_mjd]))[0]
    # raw data are g1 conj(g2) V; a Measurement Set holds their conjugates, so its gains are conjugated, too
    found = np.conj((bandpass.gain * gain.gain)[0, numbers])
    assert not bandpass.flag[0, numbers].any()
    reference = numbers.index(int(report.refant) - 1)
    turn = found * np.conj(found[reference]) / (truth * np.conj(truth[reference]))
    assert np.abs((np.abs(found) / np.abs(truth)).mean(axis=1) - 1).max() < 0.01
    # 2 deg on the longest baseline here (2.2 km) is 0.1 arcsec on the sky; the solutions' noise is 0.3 deg
    assert np.degrees(np.abs(np.angle(turn.mean(axis=1)))).max() < 2.0


def test_calibration_restores_the_fluxes_within_half_a_percent(calibrated):
    _, c = calibrated
    weight = np.where(c["FLAG"], 0, c["WEIGHT_SPECTRUM"])
    scale = (weight * (c["DATA"] * c["MODEL_DATA"].conj()).real).sum() / (weight * np.abs(c["MODEL_DATA"]) ** 2).sum()
    assert scale == pytest.approx(1, abs=0.005)


def test_weights_describe_the_noise(calibrated):
    """Residuals in units of 1/sqrt(weight) have unit width, minus the degrees of freedom of the gains."""
    _, c = calibrated
    good = ~c["FLAG"]
    pull = ((c["DATA"] - c["MODEL_DATA"]) * np.sqrt(c["WEIGHT_SPECTRUM"]))[good]
    n_gains, n_visibilities = 8 * 64 * 2, pull.size
    expected = np.sqrt(1 - n_gains / n_visibilities)
    assert pull.real.std() == pytest.approx(expected, abs=0.02)
    assert pull.imag.std() == pytest.approx(expected, abs=0.02)
