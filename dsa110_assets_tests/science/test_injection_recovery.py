"""Artificial sources look as the array would have recorded them, and their recovery is measured correctly."""

import numpy as np
import pandas as pd
import pytest
from casacore.tables import table

from dsa110_assets.catalogs.calibrators import read_manual, write_calibrator_db
from dsa110_assets.errors import MeasurementSetError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.imaging.injection import INJECTED_KEYWORD, inject_sources
from dsa110_assets.quality import gate
from dsa110_assets.quality.recovery import bin_by_snr, draw_injections, recovery_png, recovery_table
from dsa110_assets.registry.queries import qa_metrics, upsert_image, upsert_qa_metric
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import injection
from dsa110_assets.stages.products.references import calibrators_path, reference_path
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile
from dsa110_assets_tests.registry_fixture import add_observation

INDEX = -0.7


def data_of(ms):
    with table(str(ms), ack=False) as main:
        return main.getcol("DATA"), main.keywordnames()


@pytest.mark.parametrize("smear", [False, True])
def test_an_injected_source_is_the_difference_of_two_independent_simulations(tmp_path, smear):
    """Sources off axis that drift through the beam and have a spectrum, with and without smearing by averaging."""
    real = [(*offset_position(150.0, 54.6, 0.3, 0.2), 1.0, INDEX)]
    added = [(*offset_position(150.0, 54.6, -0.7, 0.6), 0.5, INDEX), (*offset_position(150.0, 54.6, 0.1, -1.1), 0.2, INDEX)]
    size = {"n_antenna": 12, "n_time": 5, "n_channel": 16, "noise": False, "smear": smear}
    without, both = write_tile(tmp_path / "a.ms", real, **size), write_tile(tmp_path / "b.ms", real + added, **size)
    sources = pd.DataFrame(added, columns=["ra_deg", "dec_deg", "flux_jy", "spectral_index"])
    inject_sources(without.ms, tmp_path / "c.ms", sources, ImagingOptions(spectral_index=INDEX, correct_smearing=smear))
    got, keywords = data_of(tmp_path / "c.ms")
    expected, _ = data_of(both.ms)
    before, _ = data_of(without.ms)
    assert np.abs(expected - before).max() > 0.3
    np.testing.assert_allclose(got, expected, atol=2e-3 * 0.7)
    assert INJECTED_KEYWORD in keywords


def test_sources_are_not_injected_into_uncalibrated_data(tmp_path):
    raw = write_tile(tmp_path / "raw.ms", [], n_antenna=8, n_time=2, n_channel=4, calibrated=False)
    with pytest.raises(MeasurementSetError, match="not calibrated"):
        inject_sources(raw.ms, tmp_path / "c.ms", pd.DataFrame({"ra_deg": [], "dec_deg": [], "flux_jy": []}), ImagingOptions())
    assert not (tmp_path / "c.ms").exists()


def test_completeness_and_biases_in_bins_are_those_of_the_simulated_table():
    rng = np.random.default_rng(1)
    snr = np.exp(rng.uniform(np.log(3), np.log(100), 4000))
    flux = snr * 1e-3
    injected = pd.DataFrame({"name": [f"i{k}" for k in range(4000)], "flux_jy": flux, "snr": snr})
    measured = injected[["name"]].assign(flux_jy=0.98 * flux + 1e-3 * rng.standard_normal(4000), flux_err_jy=1e-3)
    seen = rng.uniform(size=4000) < np.where(snr > 7, 0.9, 0.2)
    pairs = pd.DataFrame(
        {"catalog_name": injected["name"][seen], "ra_offset_arcsec": 0.3 + rng.normal(0, 1, seen.sum()), "dec_offset_arcsec": 0.0}
    )
    bins = bin_by_snr(recovery_table(injected, measured, pairs))
    assert sum(one.n for one in bins) == 4000
    for one in bins:
        assert abs(one.completeness - (0.9 if one.snr_low >= 7 else 0.2)) < 4 * one.completeness_err
        assert abs(one.flux_bias + 0.02) < 4 * one.flux_bias_err
        assert abs(one.east_arcsec - 0.3) < 4 * one.position_err_arcsec * np.sqrt(2)
    trend = pd.DataFrame({"night": ["a", "b"], "flux_bias": [0.0, -0.02], "flux_bias_err": 0.01})
    assert recovery_png(bins, trend, "test").startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """A tile with real sources, calibrated and imaged."""
    directory = tmp_path_factory.mktemp("night")
    rng = np.random.default_rng(4)
    where = [offset_position(150.0, 54.6, *rng.uniform(-0.35, 0.35, 2)) for _ in range(5)]
    sources = [(*xy, flux, INDEX) for xy, flux in zip(where, (0.9, 0.5, 0.3, 0.2, 0.1), strict=True)]
    tile = write_tile(directory / "tile.ms", sources, n_antenna=20, n_time=6, n_channel=8)
    catalog = pd.DataFrame(sources, columns=["ra_deg", "dec_deg", "flux_jy", "spectral_index"]).assign(name=[f"s{i}" for i in range(5)])
    return tile, catalog


def test_a_night_is_checked_with_sources_injected_into_its_own_visibilities(observed, registry_config, database):
    tile, catalog = observed
    config = registry_config.model_copy(
        update={"image_size": 512, "cell_arcsec": 7.0, "correct_smearing": False, "injection_sources": 30, "threads_per_worker": 1}
    )
    platform = Platform.open(config)
    group = "2025-05-05T06:00:00"
    options = ImagingOptions.from_config(config)
    images = platform.paths.image_dir(group)
    images.mkdir(parents=True)
    report = image_tile(tile.ms, images, group, options, mask_sky=catalog, provenance={"DSAGROUP": group})
    platform.paths.calibrated_ms(group).parent.mkdir(parents=True)
    platform.paths.calibrated_ms(group).symlink_to(tile.ms)
    reference_path(platform).parent.mkdir(parents=True, exist_ok=True)
    catalog.to_parquet(reference_path(platform))
    write_calibrator_db(read_manual(MANUAL), calibrators_path(platform))
    before, _ = data_of(tile.ms)
    with database.session() as session:
        add_observation(session, group, dec_deg=54.6)
        upsert_image(
            session, directory=str(images), group_id=group, mid_mjd=60_800.2506, ra_deg=150.0, dec_deg=54.6, pointing_dec_deg=54.6,
            noise_jy_per_beam=report.noise_jy_per_beam, thermal_jy_per_beam=None, peak_jy_per_beam=1.0, bmaj_arcsec=report.beam.major_arcsec,
            bmin_arcsec=report.beam.minor_arcsec, bpa_deg=report.beam.pa_deg,
        )  # fmt: skip
    assert injection.recover_injections(platform, "2025-05-05", "test") is None, "its image was never judged"
    with database.session() as session:
        for check in gate.TILE_CHECKS:
            upsert_qa_metric(session, "tile_image", group, check, 1.0, passed=True)
    assert injection.recover_injections(platform, "2025-05-04", "test") is None
    result = injection.recover_injections(platform, "2025-05-05", "test")
    assert result is not None
    figures = result.figures
    assert figures["injected"] == 30
    assert figures["completeness_above_threshold"] > 0.9
    assert abs(figures["flux_bias"]) < 0.01 + 3 * figures["flux_bias_err"]
    assert figures["flux_bias_err"] < 0.02
    assert figures["position_offset_arcsec"] < 0.1 * report.beam.major_arcsec
    np.testing.assert_array_equal(data_of(tile.ms)[0], before)
    folder = platform.paths.injection_dir("2025-05-05")
    assert sorted(path.name for path in folder.iterdir()) == [
        "completeness.csv",
        "completeness.csv-metadata.json",
        "recovery.parquet",
        "recovery.png",
    ]
    table_of_sources = pd.read_parquet(folder / "recovery.parquet")
    faint = table_of_sources[table_of_sources["snr"] < 5]
    assert faint["found"].mean() < 0.3, "the blind search finds sources below its threshold"
    pull = (table_of_sources["measured_jy"] - table_of_sources["flux_jy"]) / table_of_sources["measured_err_jy"]
    assert 0.5 < pull.std() < 1.6
    with database.session() as session:
        metrics = qa_metrics(session, "injection_recovery", "2025-05-05")
        assert metrics["flux_bias"].value == pytest.approx(figures["flux_bias"])
        trend = injection._trend(session, "2025-05-06", 0.01, 0.005)
    assert trend["night"].tolist() == ["2025-05-05", "2025-05-06"]
    assert trend["flux_bias"].iloc[0] == pytest.approx(figures["flux_bias"])


def test_artificial_sources_keep_their_distance_and_have_the_drawn_snr():
    from dsa110_assets_tests.photometry.fields import make_wcs

    wcs = make_wcs(400)
    yy, xx = np.mgrid[:400, :400]
    beam = np.exp(-((xx - 200) ** 2 + (yy - 200) ** 2) / 150**2).astype(np.float32)
    ra, dec = wcs.wcs_pix2world(200, 200, 0)
    occupied = pd.DataFrame({"ra_deg": [float(ra)], "dec_deg": [float(dec)]})
    drawn = draw_injections(np.random.default_rng(2), (beam / 1e-3) ** 2, beam, wcs, occupied, 30, 6.0)
    x, y = wcs.wcs_world2pix(drawn["ra_deg"], drawn["dec_deg"], 0)
    every = np.stack([np.append(x, 200), np.append(y, 200)], axis=1)
    distance = np.hypot(*(every[:, None] - every[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(every))
    assert distance.min() >= 5 * 6.0
    assert drawn["primary_beam"].min() >= 0.25
    np.testing.assert_allclose(drawn["flux_jy"] * beam[np.round(y).astype(int), np.round(x).astype(int)] / 1e-3, drawn["snr"], rtol=1e-4)
