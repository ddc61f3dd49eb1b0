"""Numbers on pages: units, precision, dashes for what is missing; sidereal time against astropy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from astropy import units as u
from astropy.time import Time

from dsa110_assets.api.pages import formats

WHEN = datetime(2026, 3, 12, 5, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize("when", [WHEN, datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(2024, 6, 1, 23, 59, 59, tzinfo=UTC)])
def test_sidereal_time_is_astropys_to_two_seconds(when: datetime) -> None:
    expected = Time(when).sidereal_time("mean", longitude=formats.SITE_LONGITUDE_DEG * u.deg).hour
    assert formats.lst_hours(when) == pytest.approx(expected, abs=2 / 3600)


def test_a_moment_is_the_same_from_an_identifier_an_mjd_and_a_datetime() -> None:
    assert formats.utc("2026-03-12T05:04:30") == formats.utc(WHEN) == "2026-03-12 05:04:30"
    assert formats.utc(float(Time(WHEN).mjd) + 1e-9) == "2026-03-12 05:04:30"
    assert formats.mjd(WHEN) == "61111.2115"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8.81, "8.81 Jy"),
        (0.41, "410 mJy"),
        (0.0015, "1.50 mJy"),
        (9.996e-4, "1000 µJy"),
        (-0.002, "-2.00 mJy"),
        (0.0, "0 mJy"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_fluxes_have_a_unit_that_suits_them(value: float | None, text: str) -> None:
    assert formats.flux(value) == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.35012, 7.0e-4, "350.12 ± 0.70 mJy"),
        (8.81, 0.0123, "8.810 ± 0.012 Jy"),
        (2e-4, 0.0015, "0.2 ± 1.5 mJy"),
        (0.1, 0.001, "100.0 ± 1.0 mJy"),
        (0.1, None, "100 mJy"),
        (None, 0.1, "–"),
    ],
)
def test_a_flux_and_its_error_have_one_unit(value: float | None, error: float | None, text: str) -> None:
    assert formats.measured(value, error) == text


@pytest.mark.parametrize(("degrees", "text"), [(120.0, "08h00m00.0s"), (359.9999999, "00h00m00.0s"), (-0.001, "23h59m59.8s"), (None, "–")])
def test_right_ascensions_round_without_sixty_seconds(degrees: float | None, text: str) -> None:
    assert formats.right_ascension(degrees) == text


@pytest.mark.parametrize(("degrees", "text"), [(16.0, "+16°00′00″"), (-0.5, "-00°30′00″"), (54.99999, "+55°00′00″"), (float("nan"), "–")])
def test_declinations_round_without_sixty_seconds(degrees: float, text: str) -> None:
    assert formats.declination(degrees) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (65, "1 min"), (3 * 3600 + 300, "3 h 05 min"), (3 * 86400, "3 d 0 h"), (None, "–"), (-7200, "-2 h 00 min")],
)
def test_durations_have_their_two_largest_units(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1230"), (0.000123456, "0.000123"), (1e-9, "1.00e-09"), (1e12, "1.00e+12"), (0, "0"), (None, "–")]
)
def test_numbers_keep_three_digits(value: float | None, text: str) -> None:
    assert formats.number(value) == text


def test_commands_and_addresses_of_a_text_are_marked_and_all_else_is_escaped() -> None:
    assert formats.marked("<b> `dsa110 clean <x>`; see http://127.0.0.1:8000/ui/sources/5; then") == (
        "&lt;b&gt; <code>dsa110 clean &lt;x&gt;</code>; see "
        '<a href="http://127.0.0.1:8000/ui/sources/5">http://127.0.0.1:8000/ui/sources/5</a>; then'
    )
    assert formats.marked('http://x/" onclick="y').startswith('<a href="http://x/">http://x/</a>&#34; ')
