"""Partitions of photometry are made when needed, once, and hold the month in their name."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.time import Time
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry import photometry_partitions


def _insert(session, mjd):
    session.execute(
        text(
            "INSERT INTO photometry (time_mjd, source_id, mosaic_name, flux_jy, flux_err_jy, noise_jy_per_beam, background_jy_per_beam, snr, is_limit) "
            "VALUES (:mjd, 1, 'm', 1, 1, 1, 0, 1, false)"
        ),
        {"mjd": mjd},
    )


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00", "2026-02-28T23:59:59", "2024-02-29T12:00:00", "2025-12-31T23:59:59.999"])
def test_bounds_are_the_calendar_months(moment):
    time = Time(moment, scale="utc")
    name, first, last = photometry_partitions.month_bounds(time.mjd)
    assert name == f"photometry_{moment[:4]}_{moment[5:7]}"
    assert Time(first, format="mjd").isot == f"{moment[:7]}-01T00:00:00.000"
    assert first <= time.mjd < last
    assert Time(last, format="mjd").isot[8:] == "01T00:00:00.000"


def test_each_measurement_lies_in_its_month(database):
    months = [f"2025-{month:02d}-15" for month in range(11, 13)] + ["2026-01-15"]
    times = Time(months).mjd
    with database.session() as session:
        assert photometry_partitions.ensure(session, times.min(), times.max()) == [
            "photometry_2025_11",
            "photometry_2025_12",
            "photometry_2026_01",
        ]
        assert photometry_partitions.ensure(session, times.min(), times.max()) == []
        for mjd in times:
            _insert(session, mjd)
    with database.session() as session:
        found = session.execute(text("SELECT tableoid::regclass::text FROM photometry ORDER BY time_mjd")).scalars().all()
    assert found == ["photometry_2025_11", "photometry_2025_12", "photometry_2026_01"]


def test_partitions_have_the_primary_key_and_the_indexes(database):
    with database.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61000.0)
        name = photometry_partitions.month_bounds(61000.0)[0]
        columns = (
            session.execute(
                text("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = cast(:name AS regclass)"), {"name": name}
            )
            .scalars()
            .all()
        )
        _insert(session, 61000.0)
    assert {definition.split("(")[-1] for definition in columns} == {
        "time_mjd, source_id, mosaic_name)",
        "source_id, time_mjd)",
        "mosaic_name)",
    }
    with pytest.raises(IntegrityError), database.session() as session:
        _insert(session, 61000.0)


def test_a_time_without_partition_is_an_error_and_not_a_default(database):
    with pytest.raises(IntegrityError, match="no partition"), database.session() as session:
        _insert(session, 61000.0)


@pytest.mark.parametrize(
    ("first", "last"), [(np.nan, 61000.0), (61000.0, np.inf), (61000.0, 60000.0), (0.0, 61000.0), (2461000.5, 2461000.5)]
)
def test_impossible_times_are_refused(database, first, last):
    with pytest.raises(NonRetriableError, match="not MJD"), database.session() as session:
        photometry_partitions.ensure(session, first, last)


def test_writers_of_a_new_month_do_not_collide(database):
    barrier = threading.Barrier(4, timeout=30)

    def work(_):
        barrier.wait()
        with database.session() as session:
            return photometry_partitions.ensure(session, 61000.0, 61031.0)

    with ThreadPoolExecutor(4) as pool:
        made = [name for names in pool.map(work, range(4)) for name in names]
    assert len(made) == len(set(made)) == 2


def test_a_new_month_does_not_wait_for_an_open_reader(database):
    with database.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61000.0)
    with database.session() as reader:
        reader.execute(text("SELECT count(*) FROM photometry")).scalar_one()  # its lock lasts until the end of the transaction
        with database.session() as writer:
            writer.execute(text("SET LOCAL lock_timeout = '2s'"))
            assert photometry_partitions.ensure(writer, 61100.0, 61100.0)
