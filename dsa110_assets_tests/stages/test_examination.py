"""What the nights remember gives the indices and events of whole light curves, whatever happens to an epoch."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import exclude_epoch, include_epoch, replace_factors, replace_photometry, source_table, upsert_sources
from dsa110_assets.registry.queries.images import upsert_mosaic
from dsa110_assets.stages.products.examination import examine, light_curves_of
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime
from dsa110_assets.variability import ese_scores, metrics

FIRST = datetime_to_mjd(datetime(2026, 1, 1, 5, 30, tzinfo=UTC))
N_SOURCES, LAG, FADED = 40, 6, 3


def name_of(night: int) -> str:
    return f"hourly_{mjd_to_datetime(FIRST + night):%Y-%m-%dT%H}"


class Sky:
    """Constant sources, one of which fades to 40 % in nights 24 to 29; one mosaic a night, with factors of 1."""

    def __init__(self, database: Database) -> None:
        self.database, self.rng = database, np.random.default_rng(8)
        with database.session() as session:
            upsert_sources(
                session,
                pd.DataFrame({"name": [f"s{k}" for k in range(N_SOURCES)], "ra_deg": np.linspace(10, 20, N_SOURCES), "dec_deg": 16.0,
                              "reference_flux_jy": 1.0}),
                origin="nvss",
            )  # fmt: skip
            self.ids = source_table(session)["source_id"].to_numpy()

    def measure(self, night: int, *, gain: float = 1.0) -> None:
        seen = self.rng.random(N_SOURCES) > 0.1
        flux = np.ones(N_SOURCES) + 0.03 * self.rng.standard_normal(N_SOURCES)
        if 24 <= night < 30:
            flux[FADED] *= 0.4
        rows = pd.DataFrame({"source_id": self.ids, "flux_jy": gain * flux, "flux_err_jy": 0.03, "noise_jy_per_beam": 0.03,
                             "background_jy_per_beam": 0.0, "snr": 30.0, "upper_limit_jy": np.nan, "is_limit": False})  # fmt: skip
        with self.database.session() as session:
            middle = FIRST + night
            upsert_mosaic(
                session, name=name_of(night), kind="hourly", directory="/data/x", start_mjd=middle - 0.02, mid_mjd=middle, end_mjd=middle + 0.02,
                ra_deg=15.0, dec_deg=16.0, noise_jy_per_beam=0.03, group_ids=[],
            )  # fmt: skip
            replace_photometry(session, name_of(night), rows[seen], time_mjd=middle)
            epoch = pd.DataFrame({"mosaic_name": [name_of(night)], "time_mjd": [middle], "factor": [1.0], "factor_err": [0.0], "n_reference": [9],
                                  "usable": [True], "noise_scale": [1.0], "gauge": [0]})  # fmt: skip
            replace_factors(session, epoch, pd.DataFrame(columns=["source_id", "mosaic_name", "ratio", "weight", "weighted_flux"]))

    def settle(self, night: int) -> None:
        with self.database.session() as session:
            session.execute(text("UPDATE epoch_factors SET settled = true WHERE time_mjd < :t"), {"t": FIRST + night - LAG + 0.5})


def check(database: Database, night: int) -> int:
    """Examine a night, compare with the whole light curves, and return the number of measurements that were read."""
    with database.session() as session:
        found = examine(session, FIRST + night + 0.5)
        curves = light_curves_of(session, (0, 10**9), end_mjd=FIRST + night + 0.5)
        assert found is not None
        assert curves is not None
        whole = metrics(curves)
        indices = found.indices.astype({"source_id": "int64"})
        pd.testing.assert_frame_equal(indices, whole, rtol=1e-10, atol=1e-12)
        scores = ese_scores(curves)
        mine = found.search.scores(trials=found.trials, suspect_epochs=found.suspects).set_index("source_id")
        wanted = scores[scores["score"] > 3.0].set_index("source_id")
        np.testing.assert_allclose(mine["score"].reindex(wanted.index), wanted["score"], atol=0.05)
        assert set(mine.index[mine["score"] >= 5.0]) == set(wanted.index[wanted["score"] >= 5.0])
        return found.n_read


@pytest.fixture
def sky(database: Database) -> Sky:
    return Sky(database)


def test_night_by_night_and_after_changes_the_indices_and_events_are_those_of_whole_light_curves(sky: Sky, database: Database) -> None:
    read = []
    for night in range(40):
        sky.measure(night)
        sky.settle(night)
        read.append(check(database, night))
    assert max(read[30:]) < N_SOURCES * 2 * LAG + 0.25 * N_SOURCES * 40, "history is read for some sources alone"
    again = check(database, 39)
    assert again <= N_SOURCES * LAG + 40, "nothing is new: the recent epochs and the event's source"
    with database.session() as session:
        exclude_epoch(session, name_of(10), reason="storm", person="J. Doe")
        exclude_epoch(session, name_of(38), reason="storm", person="J. Doe")
    check(database, 39)
    with database.session() as session:
        include_epoch(session, name_of(10))
    check(database, 39)
    sky.measure(12, gain=1.2)  # measured again, settled long ago, other sources are seen
    sky.settle(39)
    check(database, 39)
    sky.measure(40)
    sky.settle(40)
    check(database, 40)


def test_a_late_epoch_and_a_past_night_are_examined_as_if_they_had_come_in_time(sky: Sky, database: Database) -> None:
    for night in (*range(15), *range(16, 30)):
        sky.measure(night)
        sky.settle(night)
        if night > 20:
            check(database, night)
    sky.measure(15)
    sky.settle(29)
    check(database, 29)
    with database.session() as session:
        before = session.execute(text("SELECT * FROM source_totals ORDER BY source_id")).all()
    check(database, 20)
    with database.session() as session:
        assert session.execute(text("SELECT * FROM source_totals ORDER BY source_id")).all() == before, "a past night changes nothing"


def test_an_epoch_in_which_many_sources_deviate_is_suspect(sky: Sky, database: Database) -> None:
    for night in range(30):
        sky.measure(night, gain=0.6 if night == 22 else 1.0)
        sky.settle(night)
        with database.session() as session:
            found = examine(session, FIRST + night + 0.5)
    assert found is not None
    assert name_of(22) in found.suspects
