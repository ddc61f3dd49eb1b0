"""Surveys are fetched through astroquery into local tables, from a local service with responses in VizieR's format."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from dsa110_assets.catalogs import sky, surveys
from dsa110_assets.catalogs.survey_list import SURVEYS
from dsa110_assets.errors import CatalogServiceError, ConfigurationError, NonRetriableError
from dsa110_assets_tests.catalogs.vizier import ANSWERS, EMPTY, NVSS, served

STRIP = surveys.Strip(54.6, 4.0)


@pytest.fixture
def vizier(tmp_path, monkeypatch):
    with served(tmp_path, ANSWERS) as (host, certificate, requests):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        yield host, requests


def test_nvss_is_converted_to_our_columns_and_units(vizier, tmp_path):
    host, requests = vizier
    table = surveys.fetch(SURVEYS["nvss"], [STRIP], min_mjy=10.0, server=host)
    assert list(table.columns) == [*sky.COLUMNS, *surveys.MORE_COLUMNS]
    assert list(table.name) == ["NVSS J235938+540000", "NVSS J083250+550635", "NVSS J083454+553420"]  # each once, by declination
    np.testing.assert_allclose(table.flux_jy, [0.0120, 0.0615, 8.2831])
    np.testing.assert_allclose(table.flux_error_jy, [0.0005, 0.0019, 0.2485])
    assert table.major_arcsec[2] == pytest.approx(15.6)
    assert table.minor_arcsec.isna().tolist() == [True, True, False]  # limits in NVSS are not numbers
    assert table.peak_jy_per_beam.isna().all()
    assert len(requests) == len(surveys.cones_of(STRIP)) > 10
    assert all("S1.4=>=10" in request and "-out.max=unlimited" in request for request in requests)
    surveys.save(table, tmp_path / "nvss.parquet")
    again = surveys.load(tmp_path / "nvss.parquet")
    assert again.attrs["survey"]["vizier"] == "VIII/65/nvss"
    assert again.attrs["survey"]["strips_deg"] == [[50.6, 58.6]]
    assert again.equals(table)
    assert list(sky.cone(sky.load_reference(tmp_path / "nvss.parquet"), 128.7, 55.5, 1.0).name) == [
        "NVSS J083454+553420",
        "NVSS J083250+550635",
    ]


def test_duplicates_and_doubtful_components_of_vlass_are_left_out(vizier):
    table = surveys.fetch(SURVEYS["vlass"], [STRIP], server=vizier[0])
    assert list(table.name) == ["VLASS1QL J084429.62+543915.5", "VLASS1QL J083454.90+553421.1"]
    np.testing.assert_allclose(table.peak_jy_per_beam, [0.0088, 4.9505])
    assert set(table.frequency_hz) == {3e9}


def test_a_strip_without_sources_leaves_the_old_table(vizier, tmp_path):
    nothing = surveys.fetch(SURVEYS["first"], [STRIP], server=vizier[0])
    assert list(nothing.columns) == [*sky.COLUMNS, *surveys.MORE_COLUMNS]
    with pytest.raises(NonRetriableError, match="no source"):
        surveys.save(nothing, tmp_path / "first.parquet")
    with pytest.raises(ConfigurationError, match="covers declinations"):
        surveys.fetch(SURVEYS["racs"], [STRIP], server=vizier[0])


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(b"not xml at all", CatalogServiceError), (ANSWERS["VIII/65/nvss"].replace("S1.4", "S14").encode(), NonRetriableError)],
    ids=["nonsense", "renamed"],
)
def test_nonsense_may_pass_and_a_changed_table_does_not(tmp_path, monkeypatch, answer, kind):
    with served(tmp_path, {"VIII/65/nvss": answer.decode()}) as (host, certificate, _):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(kind):
            surveys.fetch(SURVEYS["nvss"], [STRIP], server=host)


def test_an_unreachable_service_is_a_retriable_error():
    with pytest.raises(CatalogServiceError, match="PIPELINE_VIZIER_SERVER"):
        surveys.fetch(SURVEYS["nvss"], [STRIP], server="localhost:9", timeout_s=2)


@pytest.mark.parametrize("strip", [(54.6, 4.0), (16.3, 1.35), (0.0, 2.0), (-38.0, 2.0), (80.0, 6.0), (90.0, 10.0), (25.0, 65.0)])
def test_cones_cover_their_strip(strip):
    rng = np.random.default_rng(8)
    low, high = surveys.Strip(*strip).limits_deg
    ra, dec = rng.uniform(0, 360, 3000), np.r_[rng.uniform(low, high, 2990), [low, high] * 5]
    points = SkyCoord(ra * u.deg, dec * u.deg)
    covered = np.zeros(ra.size, dtype=bool)
    for cone_ra, cone_dec, radius in surveys.cones_of(surveys.Strip(*strip)):
        covered |= points.separation(SkyCoord(cone_ra * u.deg, cone_dec * u.deg)).deg <= radius
    assert covered.all()


def test_designations_are_truncated_positions():
    ra, dec = np.array([128.728796, 359.9999999, 10.0]), np.array([55.572475, -0.0001, -30.5])
    assert surveys.names_of(SURVEYS["first"], ra, dec)[0] == "FIRST J083454.9+553420"
    assert surveys.names_of(SURVEYS["vlass"], ra, dec) == [
        "VLASS1QL J083454.91+553420.9", "VLASS1QL J235959.99-000000.3", "VLASS1QL J004000.00-303000.0"
    ]  # fmt: skip
    assert surveys.names_of(SURVEYS["nvss"], ra, dec)[0] == "NVSS J083454+553420"


def test_the_recorded_responses_are_valid_for_astropy(tmp_path):
    from astropy.io.votable import parse

    for number, text in enumerate((*ANSWERS.values(), EMPTY)):
        (tmp_path / f"{number}.xml").write_text(text)
        parse(str(tmp_path / f"{number}.xml"), verify="exception")
    assert len(NVSS) == 4
