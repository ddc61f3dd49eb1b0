"""Applied calibration equals CASA's applycal followed by mstransform, flags and interpolation included."""

import shutil

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.casa_child import run_tasks
from dsa110_assets.errors import ConfigurationError, NonRetriableError

BINS = 2


@pytest.fixture(scope="module")
def flagged(solved, tmp_path_factory):
    """A tile and tables with every kind of flag."""
    directory = tmp_path_factory.mktemp("flagged")
    for source, name in ((solved.tile.path, "tile.ms"), (solved.report.bandpass, "bandpass.cal"), (solved.report.gain, "gain.cal")):
        shutil.copytree(source, directory / name)
    rng = np.random.default_rng(5)
    with table(str(directory / "tile.ms"), readonly=False, ack=False) as ms:
        flag = rng.random(ms.getcol("FLAG").shape) < 0.2
        flag[10] = True
        ms.putcol("FLAG", flag)
        ms.putcol("FLAG_ROW", flag.all(axis=(1, 2)))
    with table(str(directory / "bandpass.cal"), readonly=False, ack=False) as bandpass:
        flag = bandpass.getcol("FLAG")
        flag[101, 3], flag[104, :, 1] = True, True
        bandpass.putcol("FLAG", flag)
    with table(str(directory / "gain.cal"), readonly=False, ack=False) as gain:
        flag = gain.getcol("FLAG")
        antenna = gain.getcol("ANTENNA1")
        flag[np.flatnonzero(antenna == 105)[1]] = True  # one interval of one antenna
        flag[antenna == 106, :, 0] = True  # one receptor at all times
        gain.putcol("FLAG", flag)
    return directory


@pytest.fixture(scope="module")
def from_casa(flagged):
    """CASA's result: DATA and FLAG of the averaged cross-correlations, for linear and nearest interpolation."""
    tasks = []
    for interpolation in ("linear", "nearest"):
        vis = flagged / f"{interpolation}.ms"
        shutil.copytree(flagged / "tile.ms", vis)
        tables = [str(flagged / name) for name in ("bandpass.cal", "gain.cal")]
        # CASA's default would interpolate in frequency across flagged channels: 'nearestflag' keeps them flagged
        interp = [f"{interpolation},nearestflag", interpolation]
        tasks += [
            (
                "applycal",
                {"vis": str(vis), "gaintable": tables, "interp": interp, "calwt": [False], "flagbackup": False, "applymode": "calflag"},
            ),
            (
                "mstransform",
                {
                    "vis": str(vis),
                    "outputvis": f"{vis}.avg",
                    "datacolumn": "corrected",
                    "chanaverage": True,
                    "chanbin": BINS,
                    "keepflags": True,
                },
            ),
        ]
    run_tasks(tasks, work_dir=flagged, timeout_s=200)
    answers = {}
    for interpolation in ("linear", "nearest"):
        with table(f"{flagged / interpolation}.ms.avg", ack=False) as ms:
            cross = ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")
            answers[interpolation] = ms.getcol("DATA")[cross], ms.getcol("FLAG")[cross], ms.getcol("TIME")[cross]
        with table(f"{flagged / interpolation}.ms.avg::SPECTRAL_WINDOW", ack=False) as window:
            answers["frequency"] = window.getcell("CHAN_FREQ", 0), window.getcell("CHAN_WIDTH", 0)
    return answers


@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
def test_applied_calibration_equals_casas(flagged, from_casa, tmp_path, interpolation):
    tables = [flagged / "bandpass.cal", flagged / "gain.cal"]
    report = apply_calibration(flagged / "tile.ms", tables, tmp_path / "out.ms", chan_avg=BINS, interpolation=interpolation)
    data, flag, time = from_casa[interpolation]
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        np.testing.assert_array_equal(ms.getcol("TIME"), time)
        np.testing.assert_array_equal(ms.getcol("FLAG"), flag)
        mine = ms.getcol("DATA")
    assert 0.05 < flag.mean() < 0.5
    good = ~flag
    assert np.abs(mine[good] - data[good]).max() < 1e-5 * np.abs(data[good]).max()
    assert report.flagged_fraction == pytest.approx(flag.mean())
    assert report.n_channels == 4
    with table(f"{tmp_path / 'out.ms'}::SPECTRAL_WINDOW", ack=False) as window:
        np.testing.assert_allclose(window.getcell("CHAN_FREQ", 0), from_casa["frequency"][0])
        np.testing.assert_allclose(window.getcell("CHAN_WIDTH", 0), from_casa["frequency"][1])


def test_calibration_restores_the_flux_of_a_source(solved, tmp_path):
    apply_calibration(solved.tile.path, [solved.report.bandpass, solved.report.gain], tmp_path / "out.ms", chan_avg=1)
    with table(str(solved.tile.path), ack=False) as ms:
        model = solved.tile.model[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")]
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        data = np.ma.masked_array(ms.getcol("DATA"), ms.getcol("FLAG")).mean(axis=2)
    scale = (data * model.conj()).real.sum() / (np.abs(model) ** 2).sum()
    assert scale == pytest.approx(1, abs=0.002)


def test_weights_follow_the_radiometer_equation(flagged, tmp_path):
    """sigma = SEFD / sqrt(2 dnu tau).

    6500 Jy, two channels of 0.9766 MHz and 12.885 s give 0.92 Jy, or 1.30 Jy if half is flagged.
    """
    tables = [flagged / "bandpass.cal", flagged / "gain.cal"]
    apply_calibration(flagged / "tile.ms", tables, tmp_path / "out.ms", chan_avg=BINS, sefd_jy=6500.0)
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        weight, flag = ms.getcol("WEIGHT_SPECTRUM"), ms.getcol("FLAG")
        sigma = 1 / np.sqrt(weight[~flag])
    whole = 6500 / np.sqrt(2 * BINS * 4 * 244140.625 * 12.884901888)
    assert set(np.round(sigma / whole, 4)) == {1.0, round(np.sqrt(2), 4)}
    assert np.all(weight[flag] == 0)


def test_solutions_are_matched_by_frequency_and_by_name(flagged, tmp_path):
    """A table with descending channels gives the same result."""
    shutil.copytree(flagged / "bandpass.cal", tmp_path / "reversed.cal")
    with table(str(tmp_path / "reversed.cal"), readonly=False, ack=False) as bandpass:
        for name in ("CPARAM", "FLAG", "SNR", "PARAMERR"):
            bandpass.putcol(name, np.ascontiguousarray(bandpass.getcol(name)[:, ::-1]))
    with table(f"{tmp_path / 'reversed.cal'}::SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        window.putcell("CHAN_FREQ", 0, window.getcell("CHAN_FREQ", 0)[::-1].copy())
    results = []
    for name, bandpass in (("a", flagged / "bandpass.cal"), ("b", tmp_path / "reversed.cal")):
        apply_calibration(flagged / "tile.ms", [bandpass, flagged / "gain.cal"], tmp_path / f"{name}.ms", chan_avg=1)
        with table(str(tmp_path / f"{name}.ms"), ack=False) as ms:
            results.append((ms.getcol("DATA"), ms.getcol("FLAG")))
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_tables_of_another_band_are_refused(flagged, tmp_path):
    shutil.copytree(flagged / "bandpass.cal", tmp_path / "other.cal")
    with table(f"{tmp_path / 'other.cal'}::SPECTRAL_WINDOW", readonly=False, ack=False) as window:
        window.putcell("CHAN_FREQ", 0, window.getcell("CHAN_FREQ", 0) + 4e8)
    with pytest.raises(NonRetriableError, match="frequencies"):
        apply_calibration(flagged / "tile.ms", [tmp_path / "other.cal"], tmp_path / "out.ms")


@pytest.mark.parametrize(("options", "message"), [({"chan_avg": 3}, "divide"), ({"interpolation": "cubic"}, "interpolation")])
def test_invalid_settings_are_refused(flagged, tmp_path, options, message):
    with pytest.raises(ConfigurationError, match=message):
        apply_calibration(flagged / "tile.ms", [flagged / "gain.cal"], tmp_path / "out.ms", **options)
