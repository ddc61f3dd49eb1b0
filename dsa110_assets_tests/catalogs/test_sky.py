"""Searches of the catalog sky equal astropy's, across 0h and near the pole; calibrators replace their counterparts."""

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord

from dsa110_assets.catalogs import calibrators, sky
from dsa110_assets.errors import FluxScaleError, NonRetriableError
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.reference_data import reference_data


@pytest.fixture
def random_sky():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-0.6, 1, 4000)))
    return pd.DataFrame(
        {"name": sky.nvss_names(ra, dec), "ra_deg": ra, "dec_deg": dec, "flux_jy": rng.pareto(1, 4000), "spectral_index": np.nan}
    )


@pytest.mark.parametrize("center", [(0.4, 10.0), (359.0, -20.0), (123.0, 88.0), (200.0, 54.6)])
def test_cone_equals_astropys(random_sky, center):
    found = sky.cone(random_sky, *center, 6.0)
    separation = SkyCoord(random_sky.ra_deg.to_numpy() * u.deg, random_sky.dec_deg.to_numpy() * u.deg).separation(
        SkyCoord(*center, unit="deg")
    )
    assert len(found) > 0
    assert set(found.name) == set(random_sky.name[separation.deg <= 6.0])
    assert found.flux_jy.is_monotonic_decreasing


def test_a_strip_may_cross_0h(random_sky):
    found = sky.strip(random_sky, 350.0, 20.0, 30.0, 2.0)
    inside = ((random_sky.ra_deg >= 350) | (random_sky.ra_deg <= 20)) & (abs(random_sky.dec_deg - 30) <= 2)
    assert set(found.name) == set(random_sky.name[inside])
    assert np.all(np.diff(np.mod(found.ra_deg - 350, 360)) >= 0)
    assert len(sky.strip(random_sky, 0.0, 360.0, 30.0, 2.0)) == (abs(random_sky.dec_deg - 30) <= 2).sum()


def test_names_are_truncated_positions():
    coordinates = SkyCoord(["08h34m54.91s +55d34m21.04s", "00h00m59.994s -00d00m04.99s", "23h59m59.996s -40d00m59.9s"])
    assert sky.nvss_names(coordinates.ra.deg, coordinates.dec.deg) == ["NVSS J083454+553421", "NVSS J000059-000005", "NVSS J000000-400059"]


def test_the_reference_catalog_is_built_completely_or_not_at_all(tmp_path):
    nvss = pd.DataFrame({"ra_deg": [10.0, 350.0, 5.0], "dec_deg": [5.0, -30.0, 60.0], "peak_jy_per_beam": np.float32([0.1, 2.0, 0.3])})
    nvss.to_parquet(tmp_path / "nvss.parquet")
    assert sky.build_reference(tmp_path / "nvss.parquet", tmp_path / "reference.parquet") == 3
    reference = sky.load_reference(tmp_path / "reference.parquet")
    assert list(reference.columns) == list(sky.COLUMNS)
    assert reference.dec_deg.is_monotonic_increasing
    np.testing.assert_allclose(reference.flux_jy, [2.0, 0.1, 0.3], rtol=1e-6)
    nvss.drop(columns="peak_jy_per_beam").to_parquet(tmp_path / "other.parquet")
    with pytest.raises(NonRetriableError, match="NVSS"):
        sky.build_reference(tmp_path / "other.parquet", tmp_path / "reference.parquet")
    assert len(sky.load_reference(tmp_path / "reference.parquet")) == 3
    with pytest.raises(NonRetriableError):
        sky.load_reference(tmp_path / "absent.parquet")


def test_a_calibrator_replaces_its_counterparts_and_nothing_else():
    star = calibrators.find(calibrators.parse_manual(MANUAL), "0834+555")
    arcsec = 1 / 3600
    catalog = pd.DataFrame(
        {
            "name": ["core", "lobe", "neighbor"],
            "ra_deg": [star.ra_deg, star.ra_deg, star.ra_deg],
            "dec_deg": [star.dec_deg + 2 * arcsec, star.dec_deg - 30 * arcsec, star.dec_deg + 120 * arcsec],
            "flux_jy": [8.6, 0.2, 0.5],
            "spectral_index": np.nan,
        }
    )
    merged = sky.with_calibrators(catalog, [star])
    assert list(merged.name) == ["0834+555", "neighbor"]
    assert merged.flux_jy[0] == 8.8
    assert merged.spectral_index[0] == pytest.approx(np.log(8.8 / 5.6) / np.log(1.4 / 4.86))


def test_a_standard_gets_the_flux_of_the_scale():
    star = calibrators.find(calibrators.parse_manual(MANUAL), "3C286")
    merged = sky.with_calibrators(pd.DataFrame(columns=list(sky.COLUMNS)), [star])
    assert merged.flux_jy[0] == pytest.approx(15.08, abs=0.01)  # Perley & Butler (2017) at 1.4 GHz; the manual says 15.0


def test_a_calibrator_without_flux_is_not_merged():
    star = calibrators.find(calibrators.parse_manual(MANUAL), "1911+161")
    with pytest.raises(FluxScaleError):
        sky.with_calibrators(pd.DataFrame(columns=list(sky.COLUMNS)), [star])


def test_the_real_nvss_becomes_the_reference_catalog(tmp_path):
    assert sky.build_reference(reference_data("nvss_above_50mJy.parquet"), tmp_path / "reference.parquet") == 125_309
    reference = sky.load_reference(tmp_path / "reference.parquet")
    brightest = sky.cone(reference, 128.7288, 55.5725, 0.02)
    assert brightest.flux_jy[0] == pytest.approx(8.62, abs=0.01)
    assert reference.name.str.fullmatch(r"NVSS J\d{6}[+-]\d{6}").all()


def test_a_calibrator_completes_the_sky_where_the_catalog_lacks_it_and_no_source_stands_twice():
    stars = {name: calibrators.find(calibrators.parse_manual(MANUAL), name) for name in ("0834+555", "3C286", "1911+161")}
    cataloged, absent = stars["0834+555"], stars["3C286"]
    catalog = pd.DataFrame(
        {
            "name": ["core", "lobe", "beside 3C286"],
            "ra_deg": [cataloged.ra_deg, cataloged.ra_deg, absent.ra_deg],
            "dec_deg": [cataloged.dec_deg + 2 / 3600, cataloged.dec_deg - 30 / 3600, absent.dec_deg + 20 / 3600],
            "flux_jy": [4.4, 3.9, 0.1],
            "spectral_index": np.nan,
        }
    )
    known = sky.of_calibrators(list(stars.values()))
    assert list(known.name) == ["0834+555", "1331+305"]  # 1911+161 has no flux at 20 cm
    complete = sky.completed(catalog, known)
    assert list(complete.name) == ["1331+305", "core", "lobe"]  # a tenth of a jansky beside it is not 3C286
    assert sky.completed(complete, known) is complete


def test_a_variable_calibrator_is_a_first_guess_for_images():
    star = next(c for c in calibrators.parse_manual(MANUAL) if c.is_variable and c.flux_jy is not None)
    assert sky.of_calibrators([star]).flux_jy.to_list() == [star.flux_jy]
