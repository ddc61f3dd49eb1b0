"""The end of the Earth-rotation table: the one that astropy uses, and announced before and after."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dsa110_assets.common import earth_rotation
from dsa110_assets.times import datetime_to_mjd


def test_the_end_is_that_of_the_table_that_astropy_uses() -> None:
    from astropy.utils import iers

    earth_rotation.configure()
    table = iers.earth_orientation_table.get()
    known = table["MJD"][(table["UT1Flag"] == "I") | (table["UT1Flag"] == "P")].value
    assert datetime_to_mjd(earth_rotation.table_end()) == known[-1]


@pytest.mark.parametrize(("days", "word"), [(61, None), (59, "in 59 days"), (-1, "ended on")])
def test_an_end_is_announced_two_months_before(days: int, word: str | None) -> None:
    found = earth_rotation.why_not_known(earth_rotation.table_end() - timedelta(days=days))
    assert (found is None) if word is None else (found is not None and word in found)


def test_a_verdict_speaks_of_the_table_only_after_its_end() -> None:
    end = datetime_to_mjd(earth_rotation.table_end())
    assert earth_rotation.remark(end - 1) == ""
    assert "ended on" in earth_rotation.remark(end + 1)
