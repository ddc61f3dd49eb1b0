"""The tile that saw a position pass the meridian."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dsa110_assets.registry.queries.images import newest_tile_on_meridian

TILES = {
    "2026-03-01T05:00:00": (359.6, 16.1),
    "2026-03-02T05:00:00": (0.2, 16.1),
    "2026-03-03T05:00:00": (1.5, 16.1),
    "2026-03-04T05:00:00": (0.2, 54.0),
}


@pytest.mark.parametrize(
    ("ra_deg", "until", "expected"),
    [
        (359.9, 1e9, "2026-03-02T05:00:00"),
        (359.9, 61101.5, "2026-03-01T05:00:00"),
        (0.1, 1e9, "2026-03-02T05:00:00"),
        (1.2, 1e9, "2026-03-03T05:00:00"),
        (180.0, 1e9, None),
        (0.1, 1.0, None),
    ],
)
def test_the_newest_tile_near_the_meridian_is_found_also_across_zero_hours(database, ra_deg, until, expected) -> None:
    with database.session() as session:
        for number, (group, (ra, dec)) in enumerate(TILES.items()):
            session.execute(
                text(
                    "INSERT INTO ingest_queue (group_id, state, start_mjd, mid_mjd, end_mjd, dec_deg, night, slot) "
                    "VALUES (:g, 'completed', :t, :t, :t, :dec, '2026-03-01', '00:00')"
                ),
                {"g": group, "t": 61101.0 + number, "dec": dec},
            )
            session.execute(
                text(
                    "INSERT INTO images (directory, group_id, mid_mjd, ra_deg, dec_deg, pointing_dec_deg, noise_jy_per_beam, "
                    "peak_jy_per_beam, bmaj_arcsec, bmin_arcsec, bpa_deg) VALUES (:g, :g, :t, :ra, :dec, :dec, 1, 1, 1, 1, 1)"
                ),
                {"g": group, "t": 61101.0 + number, "ra": ra, "dec": dec},
            )
        found = newest_tile_on_meridian(session, ra_deg, 16.3, half_width_deg=0.66, dec_distance_deg=2.0, start_mjd=0.0, end_mjd=until)
    assert (None if found is None else found.group_id) == expected
