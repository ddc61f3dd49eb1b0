"""The own sky model grows with what images find, and holds each source once."""

from __future__ import annotations

from threading import Thread

import pytest

from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import sky_model
from dsa110_assets.registry.queries.sky_model import Found


def test_a_source_is_kept_once_with_the_values_of_the_image_that_saw_it_best(database: Database) -> None:
    first, beside = Found(0.001, 54.0, 1.25, 0.02, 0.05), Found(0.02, 54.0, 0.8, 0.02, 0.05)
    better, worse = Found(359.999, 54.001, 1.2, 0.003, 0.31), Found(0.0, 54.0, 1.4, 0.2, 0.01)
    with database.session() as session:
        assert sky_model.record(session, "a", 61_000.0, [first, beside]) == 2
        assert sky_model.record(session, "b", 61_001.0, [better]) == 0
        assert sky_model.record(session, "c", 60_999.0, [worse]) == 0
        assert sky_model.record(session, "b", 61_001.0, [better]) == 0  # made again
    with database.session() as session:
        rows = sky_model.newest(session, limit=10).rows
        assert len(rows) == 2
        kept = rows[1]  # the newest first
        assert (kept["group_id"], kept["flux_jy"], kept["first_mjd"], kept["last_mjd"]) == ("b", 1.2, 60_999.0, 61_001.0)
        around = sky_model.around(session, 54.0, 6.0)
        assert list(around["flux_jy"]) == pytest.approx([1.2, 0.8])
        assert sky_model.around(session, 20.0, 6.0).empty


def test_two_images_that_find_the_same_new_source_at_once_add_it_once(database: Database) -> None:
    second = Thread(target=_record, args=(database, "b", 1.3))
    with database.session() as session:
        sky_model.record(session, "a", 61_000.0, [Found(10.0, 54.0, 1.2, 0.01, 0.05)])
        second.start()
        second.join(0.5)
        assert second.is_alive(), "it waits for the first to be committed"
    second.join(20)
    with database.session() as session:
        (row,) = sky_model.newest(session, limit=10).rows
    assert (row["group_id"], row["flux_jy"]) == ("b", 1.3)


def _record(database: Database, group_id: str, flux_jy: float) -> None:
    with database.session() as session:
        sky_model.record(session, group_id, 61_001.0, [Found(10.001, 54.001, flux_jy, 0.005, 0.05)])
