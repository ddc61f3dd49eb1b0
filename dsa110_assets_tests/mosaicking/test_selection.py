"""Which tiles go together."""

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking import declination_strips, make_mosaic, select_tiles
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime
from dsa110_assets_tests.mosaicking.tile_files import strip


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    """Thirty descriptions of tiles, five minutes apart from 05:30, of one that exists."""
    (tile,) = strip(tmp_path_factory.mktemp("one"), 1, [], size=64)
    first = datetime_to_mjd(datetime(2026, 3, 1, 5, 30, tzinfo=UTC))
    return [
        replace(tile, group_id=f"g{i:02d}", start_mjd=first + i / 288, mid_mjd=first + (i + 0.5) / 288, end_mjd=first + (i + 1) / 288)
        for i in range(30)
    ]


def test_tiles_are_selected_by_the_middle_of_their_observation(described):
    start, end = datetime(2026, 3, 1, 6, tzinfo=UTC), datetime(2026, 3, 1, 7, tzinfo=UTC)
    chosen = select_tiles(described, start, end)
    assert [tile.group_id for tile in chosen] == [f"g{i:02d}" for i in range(6, 18)]
    assert all(start <= mjd_to_datetime(tile.mid_mjd) < end for tile in chosen)
    wider = select_tiles(described[::-1], start, end, overlap_minutes=10)
    assert [tile.group_id for tile in wider] == [f"g{i:02d}" for i in range(4, 20)]


def test_when_a_file_was_made_does_not_matter(described):
    os.utime(described[0].path("image"), (0, 0))
    start, end = datetime(2026, 3, 1, 5, 30, tzinfo=UTC), datetime(2026, 3, 1, 5, 36, tzinfo=UTC)
    assert [tile.group_id for tile in select_tiles(described, start, end)] == ["g00"]


def test_an_observation_is_taken_once(described):
    start, end = datetime(2026, 3, 1, 6, tzinfo=UTC), datetime(2026, 3, 1, 7, tzinfo=UTC)
    remade = replace(described[6], noise_jy_per_beam=0.001)
    chosen = select_tiles([*described, remade], start, end)
    assert len(chosen) == 12
    assert chosen[0].noise_jy_per_beam == 0.001


def test_a_change_of_declination_makes_two_strips(described):
    moved = [replace(tile, dec_deg=16.3) for tile in described[:10]]
    strips = declination_strips([*moved, *described[10:]])
    assert [len(one) for one in strips] == [20, 10]
    assert [tile.group_id for tile in strips[1]] == [tile.group_id for tile in moved]
    start, end = datetime(2026, 3, 1, 5, tzinfo=UTC), datetime(2026, 3, 1, 9, tzinfo=UTC)
    assert len(select_tiles([*moved, *described[10:]], start, end, declination_deg=16.3)) == 10


def test_no_tile_and_a_tile_given_twice_are_refused(described, tmp_path):
    with pytest.raises(MosaicError, match="no tiles"):
        make_mosaic([], tmp_path, "none", provenance={})
    with pytest.raises(MosaicError, match="given twice: g00"):
        make_mosaic([described[0], described[0]], tmp_path, "twice", provenance={})
