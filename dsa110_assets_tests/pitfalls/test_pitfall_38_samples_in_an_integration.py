"""Pitfall 38: ``nsamples`` is 96 in a complete integration. It is no number of integrations."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from dsa110_assets.conversion import convert_observation, verify_ms
from dsa110_assets.conversion.export import ExportFormat, export_visibilities
from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.quality.image import compare_with_catalog, judge_tile, read_tile
from dsa110_assets.rawfile import validate_raw_file
from dsa110_assets.simulation.array import demo_array
from dsa110_assets.simulation.band import demo_band
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets_tests.conftest import RawTile, make_raw_tile
from dsa110_assets_tests.conversion.minimal_raw import write_raw

COLUMNS = ("DATA", "FLAG", "FLAG_ROW", "WEIGHT", "WEIGHT_SPECTRUM", "SIGMA", "UVW", "TIME", "EXPOSURE", "INTERVAL")
START_JD, DEC_RAD = 2461000.75, np.radians(54.6)


def columns(ms: Path) -> dict[str, np.ndarray]:
    from casacore.tables import table

    with table(str(ms), ack=False) as main:
        return {name: main.getcol(name) for name in COLUMNS}


def with_samples(files: list[Path], directory: Path, factor: float) -> dict[int, Path]:
    """Copies of raw files with ``nsamples`` multiplied."""
    directory.mkdir()
    copies = {subband: Path(shutil.copy(path, directory / path.name)) for subband, path in enumerate(files)}
    for path in copies.values():
        with h5py.File(path, "r+") as file:
            file["Data/nsamples"][...] = file["Data/nsamples"][()] * np.float32(factor)
    return copies


def minimal(directory: Path, samples: dict[int, np.ndarray | float], n_times: int = 4) -> dict[int, Path]:
    """Raw files of 10 baselines and 8 channels; ``samples``, by subband, is broadcast to (Ntimes, Nbls, 8, 2)."""
    directory.mkdir(exist_ok=True)
    files = {}
    for subband, values in samples.items():
        path = directory / f"2025-11-20T06:00:0{subband}_sb{subband:02d}.hdf5"
        files[subband] = write_raw(path, subband, start_jd=START_JD, dec_rad=DEC_RAD, n_times=n_times)
        with h5py.File(path, "r+") as file:
            data = file["Data/nsamples"]
            data[...] = np.broadcast_to(values, (n_times, 10, 8, 2)).reshape(data.shape)
    return files


def by_time(*samples: float) -> np.ndarray:
    return np.array(samples)[:, None, None, None]


def test_pitfall_38_the_simulator_writes_96_and_a_tile_is_the_same_with_1(tiny_raw_tile: RawTile, tmp_path: Path) -> None:
    with h5py.File(tiny_raw_tile.files[5]) as file:
        assert set(np.unique(file["Data/nsamples"][()])) == {np.float32(96)}
    convert_observation(dict(enumerate(tiny_raw_tile.files)), tmp_path / "96.ms")
    convert_observation(with_samples(tiny_raw_tile.files, tmp_path / "raw", 1 / 96), tmp_path / "1.ms")
    telescope, ones = columns(tmp_path / "96.ms"), columns(tmp_path / "1.ms")
    for name in COLUMNS:
        np.testing.assert_array_equal(telescope[name], ones[name], err_msg=name)
    assert set(np.unique(telescope["WEIGHT_SPECTRUM"])) <= {0.0, 1.0}
    assert set(np.unique(telescope["WEIGHT"])) == {1.0}
    assert set(np.unique(telescope["SIGMA"])) == {1.0}


def test_pitfall_38_a_partial_integration_weighs_its_fraction_and_an_empty_one_is_flagged(tmp_path: Path) -> None:
    files = minimal(tmp_path / "raw", {s: by_time(96, 96, 24, 0) for s in range(2)})
    for path in files.values():
        with h5py.File(path, "r+") as file:
            file["Data/visdata"][30:] = np.nan
    report = convert_observation(files, tmp_path / "a.ms", expected_subbands=2, flag_rfi=False)
    verify_ms(tmp_path / "a.ms", report, thorough=True)
    found = {name: values.reshape(4, 10, *values.shape[1:]) for name, values in columns(tmp_path / "a.ms").items()}
    np.testing.assert_array_equal(found["FLAG"].all(axis=(1, 2, 3)), [False, False, False, True])
    assert not found["FLAG"][:3].any()
    np.testing.assert_array_equal(found["FLAG_ROW"].all(axis=1), [False, False, False, True])
    for t, fraction in enumerate((1.0, 1.0, 0.25, 0.0)):
        assert set(np.unique(found["WEIGHT_SPECTRUM"][t])) == {fraction}
    for t, fraction in enumerate((1.0, 1.0, 0.25)):
        assert set(np.unique(found["WEIGHT"][t])) == {fraction}
        assert set(np.unique(found["SIGMA"][t])) == {fraction**-0.5}
    assert report.flags.by_reason["no_samples"] == pytest.approx(0.25)
    assert report.flags.by_reason["absurd_value"] == 0.0
    assert report.notes == ()


@pytest.mark.parametrize(
    ("samples", "weights"),
    [
        ({0: 96.0, 1: 48.0}, (1.0, 0.5)),  # one subband lost half of its samples
        ({0: 96.0, 1: 1.0}, (1.0, 1.0)),  # one was made by software that counts integrations
        ({0: 40.0, 1: 40.0}, (40 / 96, 40 / 96)),  # partial integrations only
        ({0: 0.5, 1: 1.0}, (0.5, 1.0)),  # fractions of integrations
        ({0: 90.0, 1: by_time(96, 96, 96, 1)}, (90 / 96, 1.0)),  # a single sample does not change the unit
    ],
)
def test_pitfall_38_each_file_tells_its_unit_and_96_is_complete_whatever_the_largest_value(
    tmp_path: Path, samples: dict[int, np.ndarray | float], weights: tuple[float, float]
) -> None:
    report = convert_observation(minimal(tmp_path / "raw", samples), tmp_path / "a.ms", expected_subbands=2, flag_rfi=False)
    spectrum = columns(tmp_path / "a.ms")["WEIGHT_SPECTRUM"][0, :, 0]
    assert spectrum[8:] == pytest.approx(weights[0], rel=5e-4)  # sb00 is the top of the band; float16
    assert spectrum[:8] == pytest.approx(weights[1], rel=5e-4)
    mixed = samples == {0: 96.0, 1: 1.0}
    assert report.notes == (("nsamples is 1 in a complete integration of subbands [1], and 96 in the others",) if mixed else ())


@pytest.mark.parametrize("value", [1e37, 97.0, -1.0, np.nan, np.inf, 1e-6])
@pytest.mark.parametrize("complete", [1.0, 96.0])
def test_pitfall_38_impossible_numbers_of_samples_are_flagged_and_change_no_other_weight(
    tmp_path: Path, value: float, complete: float
) -> None:
    samples = np.full((4, 10, 8, 2), complete)
    samples[1, :, 3, 0] = value
    convert_observation(minimal(tmp_path / "raw", {0: samples}), tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    found = columns(tmp_path / "a.ms")
    expected = np.zeros((4, 10, 8, 2), dtype=bool)
    expected[1, :, 4, 0] = True  # channels descend in the file
    np.testing.assert_array_equal(found["FLAG"], expected.reshape(found["FLAG"].shape))
    np.testing.assert_array_equal(found["WEIGHT_SPECTRUM"], ~found["FLAG"])


@pytest.mark.parametrize("value", [97.0, -1.0])
def test_pitfall_38_a_file_of_impossible_numbers_of_samples_is_rejected(tmp_path: Path, value: float) -> None:
    (path,) = minimal(tmp_path / "raw", {0: value}).values()
    with pytest.raises(InvalidRawFileError, match="Data/nsamples holds nothing but"):
        validate_raw_file(path)


def test_pitfall_38_an_export_of_raw_data_counts_in_integrations(tmp_path: Path) -> None:
    from pyuvdata import UVData

    convert_observation(minimal(tmp_path / "raw", {0: by_time(96, 24)}, 2), tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    export_visibilities(tmp_path / "a.ms", tmp_path / "a.uvh5", ExportFormat.UVH5, vis_units="uncalib")
    back = UVData.from_file(tmp_path / "a.uvh5", run_check=False, fix_autos=False)
    late = back.time_array > back.time_array.min()
    assert set(np.unique(back.nsample_array[~late])) == {1.0}
    assert set(np.unique(back.nsample_array[late])) == {0.25}
    assert back.integration_time == pytest.approx(12.884901888)  # times nsamples: the time that was observed


@pytest.fixture(scope="module")
def short_tile(tmp_path_factory: pytest.TempPathFactory) -> RawTile:
    """The last files of a run: 8 complete integrations, 24 samples of the next, none of the last."""
    return make_raw_tile(tmp_path_factory.mktemp("short"), array=demo_array(), band=demo_band(), n_integrations=10, ending=(24, 0))


def test_pitfall_38_the_last_file_of_a_run_passes_from_raw_files_to_fluxes_with_thermal_noise(short_tile: RawTile, tmp_path: Path) -> None:
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.solve import solve
    from dsa110_assets.photometry.images import measure_tile

    for path in short_tile.files:
        validate_raw_file(path)
    sky = short_tile.sky
    catalog = pd.DataFrame(
        {"name": sky.names, "ra_deg": sky.ra_deg, "dec_deg": sky.dec_deg, "flux_jy": sky.flux_jy, "spectral_index": sky.spectral_index}
    )
    report = convert_observation(dict(enumerate(short_tile.files)), tmp_path / "raw.ms")
    verify_ms(tmp_path / "raw.ms", report, thorough=True)
    flag = columns(tmp_path / "raw.ms")["FLAG"].reshape(10, -1)
    assert flag[9].all()
    assert flag[:8].mean() < 0.01
    assert flag[8].mean() < 0.01  # its noise is twice as large, and no interference
    solved = solve(tmp_path / "raw.ms", tmp_path / "tables", sky=catalog, smearing=False)
    assert solved.bandpass is not None
    assert solved.gain is not None
    apply_calibration(tmp_path / "raw.ms", [solved.bandpass, solved.gain], tmp_path / "tile.cal.ms")
    options = ImagingOptions(image_size=1024, cell_arcsec=6.0, correct_smearing=False)
    image = image_tile(tmp_path / "tile.cal.ms", tmp_path, "tile", options, mask_sky=catalog, provenance={})
    assert image.noise_jy_per_beam == pytest.approx(image.thermal_jy_per_beam, rel=0.15)
    verdicts = judge_tile(read_tile(tmp_path, "tile"), catalog)
    assert [verdict.name for verdict in verdicts if verdict.passed is False] == []
    measured = measure_tile(tmp_path, "tile", catalog)
    assert len(measured) == 2
    pull = (measured["flux_jy"] - measured["name"].map(dict(zip(sky.names, sky.flux_jy, strict=True)))) / measured["flux_err_jy"]
    assert pull.abs().max() < 5
    found = compare_with_catalog(read_tile(tmp_path, "tile"), catalog, image.noise_jy_per_beam)
    assert found.flux_ratio == pytest.approx(np.ones(2), abs=0.015)
    assert np.hypot(found.east_arcsec, found.north_arcsec).max() < max(0.3, 0.02 * image.beam.major_arcsec)


def test_pitfall_38_noise_is_what_the_weights_say_in_complete_and_partial_integrations(tmp_path: Path) -> None:
    raw = make_raw_tile(
        tmp_path / "raw",
        array=demo_array(),
        band=demo_band(),
        n_integrations=4,
        sky=point_sources([], [], []),
        receivers=Receivers.perfect(),
        ending=(50, 2),
    )
    convert_observation(dict(enumerate(raw.files)), tmp_path / "a.ms", flag_rfi=False)
    found = columns(tmp_path / "a.ms")
    cross = (found["UVW"] != 0).any(axis=1)
    jansky = np.sqrt(found["WEIGHT_SPECTRUM"][cross]) * found["DATA"][cross]
    sigma = (jansky.reshape(4, -1).view(np.float32) ** 2).mean(axis=1) ** 0.5
    thermal = 6500.0 / np.sqrt(2 * raw.band.channel_width_hz * 12.884901888)
    assert sigma == pytest.approx(thermal, rel=0.01)
