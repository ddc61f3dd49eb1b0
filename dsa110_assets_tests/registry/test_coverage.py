"""Images that cover a position: the same as by testing all, page by page, with work that history does not raise."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import text

from dsa110_assets.registry.queries.coverage import Extent, covering_images
from dsa110_assets_tests.registry.statement_work import work_of

EXTENT = Extent(1.7, 2.0)
START = datetime(2026, 1, 1, tzinfo=UTC)


def add_images(database, centers: list[tuple[float, float]], first: int = 0) -> list[tuple[str, float, float]]:
    """Images at these centers, five minutes apart."""
    found = []
    with database.session() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))  # images without observations: a test makes many
        for number, (ra, dec) in enumerate(centers, start=first):
            group_id = (START + number * timedelta(seconds=309)).strftime("%Y-%m-%dT%H:%M:%S")
            found.append((group_id, ra, dec))
        session.execute(
            text(
                "INSERT INTO images (directory, group_id, mid_mjd, ra_deg, dec_deg, pointing_dec_deg, noise_jy_per_beam, "
                "peak_jy_per_beam, bmaj_arcsec, bmin_arcsec, bpa_deg) VALUES ('/' || :g, :g, :m, :r, :d, :d, 1e-3, 1, 40, 30, 0)"
            ),
            [
                {"g": group_id, "m": 61000.0 + index / 280, "r": ra, "d": dec}
                for index, (group_id, ra, dec) in enumerate(found, start=first)
            ],
        )
    return found


def all_pages(database, ra: float, dec: float, limit: int) -> list[str]:
    found, before = [], None
    for _ in range(1000):
        with database.session() as session:
            page = covering_images(session, ra, dec, EXTENT, before=before, limit=limit)
        assert len(page.rows) <= limit
        found += [row["group_id"] for row in page.rows]
        if page.next_key is None:
            return found
        before = page.next_key[0]
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("position", [(0.5, 16.2), (359.9, 15.0), (120.0, -0.4), (200.0, 88.7), (10.0, 55.0)])
def test_pages_hold_exactly_the_images_that_cover_a_position(database, position: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    around = [
        ((position[0] + east / max(0.02, np.cos(np.radians(position[1])))) % 360, position[1] + north)
        for east, north in rng.uniform(-3, 3, (150, 2))
    ]
    images = add_images(database, [(ra, float(np.clip(dec, -89.9, 89.9))) for ra, dec in around])
    expected = [group_id for group_id, ra, dec in reversed(images) if EXTENT.covers(ra, dec, *position)]
    assert 10 < len(expected) < 140
    for limit in (3, 17, 200):
        assert all_pages(database, *position, limit) == expected


@pytest.mark.parametrize(
    ("east", "north", "covered"), [(0.0, 1.69, True), (0.0, 1.71, False), (1.69, 0.0, True), (1.71, 0.0, False), (1.5, 1.5, False)]
)
def test_an_image_covers_its_square_within_the_beam(east: float, north: float, covered: bool) -> None:
    assert EXTENT.covers(120.0, 0.0, 120.0 + east, north) is covered


def test_the_work_for_a_page_does_not_follow_the_number_of_nights(database) -> None:
    night = [(ra, 16.1) for ra in np.arange(100.0, 140.0, 1.3)]
    add_images(database, night * 20)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE images"))

    def question(session):
        covering_images(session, 120.0, 16.0, EXTENT, before=None, limit=10)

    few = work_of(database, question)
    add_images(database, night * 60, first=len(night) * 20)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE images"))
    many = work_of(database, question)
    assert many.rows <= 1.2 * few.rows
