"""The migrations make the declared schema, also when several processes start together."""

import multiprocessing

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, inspect, text

from dsa110_assets.errors import ConfigurationError, RegistryError
from dsa110_assets.registry import photometry_partitions
from dsa110_assets.registry.database import Database, alembic_config
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.migrations.env import include_name
from dsa110_assets.registry.schema import Base


@pytest.fixture
def unmigrated(registry_url, request):
    """An empty database without tables on the test server."""
    administration = Database(registry_url)
    name = "migrations_" + request.node.name.lower()[:40]
    with administration.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    fresh = Database(registry_url.replace("/postgres?", f"/{name}?"))
    yield fresh
    fresh.dispose()
    with administration.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    administration.dispose()


def _differences(database: Database) -> list:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": include_name, "compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, Base.metadata)


def test_migrated_schema_is_the_declared_one(database):
    with database.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61000.0)  # partitions made on demand do not count
    assert _differences(database) == []


def test_a_missing_column_is_found(unmigrated):
    unmigrated.migrate()
    with unmigrated.session() as session:
        session.execute(text("ALTER TABLE images DROP COLUMN bpa_deg"))
    assert [difference[0] for difference in _differences(unmigrated)] == ["add_column"]


def test_check_constraints_and_partitioning_are_the_declared_ones(database):
    """Alembic does not compare these."""
    declared = {
        str(constraint.name)
        for table in Base.metadata.sorted_tables
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    with database.session() as session:
        found = set(
            session.scalars(text("SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"))
        )
        strategy = session.scalar(text("SELECT pg_get_partkeydef('photometry'::regclass)"))
        default = session.scalar(text("SELECT partdefid FROM pg_partitioned_table WHERE partrelid = 'photometry'::regclass"))
    assert found == declared
    assert strategy == "RANGE (time_mjd)"
    assert default == 0


def test_upgrade_and_downgrade_leave_nothing_behind(unmigrated):
    assert unmigrated.revision() is None
    assert unmigrated.migrate() is True
    assert unmigrated.revision() == HEAD_REVISION
    assert unmigrated.migrate() is False
    with unmigrated.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61040.0)
    with unmigrated.engine.connect() as connection, alembic_config(connection) as configuration:
        command.downgrade(configuration, "base")
        connection.commit()
    assert inspect(unmigrated.engine).get_table_names() == ["alembic_version"]
    assert unmigrated.migrate() is True
    assert _differences(unmigrated) == []


def test_the_head_revision_is_the_newest_migration(database):
    with database.engine.connect() as connection, alembic_config(connection) as configuration:
        assert ScriptDirectory.from_config(configuration).get_current_head() == HEAD_REVISION


def test_a_schema_of_a_newer_release_is_refused(unmigrated):
    unmigrated.migrate()
    with unmigrated.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer"):
        unmigrated.migrate()


def _migrate(url: str) -> bool:
    return Database(url).migrate()


def test_processes_that_start_together_migrate_once(unmigrated):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert sorted(pool.map(_migrate, [unmigrated.url] * 4)) == [False, False, False, True]
    assert _differences(unmigrated) == []


def test_an_unreachable_server_is_a_retriable_error_without_the_password(tmp_path):
    gone = Database(f"postgresql+psycopg2://me:secret@/db?host={tmp_path}")
    with pytest.raises(RegistryError, match="db status") as caught, gone.session() as session:
        session.execute(text("SELECT 1"))
    assert "secret" not in str(caught.value)


def test_a_block_that_fails_changes_nothing(database):
    with pytest.raises(ZeroDivisionError), database.session() as session:  # noqa: PT012
        session.execute(text("INSERT INTO sources (name, ra_deg, dec_deg, origin) VALUES ('a', 1, 2, 'nvss')"))
        _ = 1 / 0
    with database.session() as session:
        assert session.scalar(text("SELECT count(*) FROM sources")) == 0


@pytest.mark.parametrize("value", [np.float64(1.5), np.float32(1.5), np.int64(3), np.int16(3), np.bool_(True)])
def test_numpy_scalars_are_stored_as_their_values(database, value):
    with database.session() as session:
        assert session.scalar(text("SELECT :value"), {"value": value}) == value.item()


def _to_revision(database: Database, revision: str) -> None:
    with database.engine.connect() as connection, alembic_config(connection) as configuration:
        (command.upgrade if revision != "0006" else command.downgrade)(configuration, revision)
        connection.commit()


def _down(database: Database, revision: str) -> None:
    with database.engine.connect() as connection, alembic_config(connection) as configuration:
        command.downgrade(configuration, revision)
        connection.commit()


_SHOWN = "SELECT source_id, mosaic_name, time_mjd, flux_jy, flux_err_jy, normalisation, normalisation_err, is_limit FROM light_curves ORDER BY 1, 2"


def test_fluxes_of_an_older_release_have_no_error_of_the_calibration_after_the_upgrade(unmigrated):
    unmigrated.migrate()
    _down(unmigrated, "0026")
    with unmigrated.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61031.0)
        for time in (61000.5, 61030.5):
            session.execute(
                text("INSERT INTO photometry VALUES (:time, 1, 'a', 0.2, 0.002, 0.002, 0, 100, NULL, false, '', now())"), {"time": time}
            )
    unmigrated.migrate()
    with unmigrated.session() as session:
        rows = session.execute(text("SELECT flux_jy, flux_err_jy, calibration_err_jy FROM photometry ORDER BY time_mjd")).tuples().all()
        assert rows == [(0.2, 0.002, None)] * 2
        photometry_partitions.ensure(session, 61090.0, 61090.0)  # a new month has the column, too
        session.execute(text("INSERT INTO photometry VALUES (61090.5, 1, 'a', 0.2, 0.003, 0.002, 0, 100, NULL, false, '', now(), 0.001)"))
        assert session.scalar(text("SELECT max(calibration_err_jy) FROM photometry")) == 0.001
    assert _differences(unmigrated) == []


def test_light_curves_of_an_older_release_show_the_same_fluxes_after_the_upgrade(unmigrated):
    """Written as the release before did: each flux divided by its epoch's factor, references by their own."""
    rng = np.random.default_rng(5)
    unmigrated.migrate()
    _to_revision(unmigrated, "0006")
    factor, factor_err, noise_scale = {"a": 1.07, "b": 0.93}, {"a": 0.003, "b": 0.002}, 0.94
    with unmigrated.session() as session:
        photometry_partitions.ensure(session, 61000.0, 61001.0)
        for time, mosaic in ((61000.5, "a"), (61001.5, "b"), (61002.5, "c")):
            session.execute(
                text("INSERT INTO mosaics VALUES (:name, 'hourly', 'd', :time, :time, :time, 0, 54.6, 1, 0.002, now())"),
                {"name": mosaic, "time": time},
            )
            for source in range(1, 41):
                flux, error = rng.normal(0.2, 0.05), rng.uniform(0.001, 0.004)
                session.execute(
                    text("INSERT INTO photometry VALUES (:time, :source, :mosaic, :flux, :error, 0.002, 0, 50, NULL, false, '', now())"),
                    {"time": time, "source": source, "mosaic": mosaic, "flux": flux, "error": error},
                )
                if mosaic in factor:
                    scale = factor[mosaic] * (1 + 1e-4 * rng.standard_normal() if source <= 10 else 1.0)
                    values = {
                        "source": source, "mosaic": mosaic, "time": time, "flux": flux / scale,
                        "error": noise_scale * np.hypot(error, flux / scale * factor_err[mosaic]) / scale, "factor": factor[mosaic],
                        "factor_err": factor_err[mosaic],
                    }  # fmt: skip
                    session.execute(
                        text("INSERT INTO light_curves VALUES (:source, :mosaic, :time, :flux, :error, :factor, :factor_err, false)"),
                        values,
                    )
        before = session.execute(text(_SHOWN)).all()
    unmigrated.migrate()
    with unmigrated.session() as session:
        after = session.execute(text(_SHOWN)).all()
        epochs = session.execute(text("SELECT mosaic_name, n_measured, n_reference, usable FROM epoch_factors ORDER BY 1")).all()
    assert [row[:3] for row in after] == [row[:3] for row in before]
    np.testing.assert_allclose([row[3:7] for row in after], [row[3:7] for row in before], rtol=1e-12)
    assert [tuple(row) for row in epochs] == [("a", 40, 10, True), ("b", 40, 10, True), ("c", 40, 0, False)]
    _to_revision(unmigrated, "0006")
    with unmigrated.session() as session:
        np.testing.assert_allclose([row[3:7] for row in session.execute(text(_SHOWN))], [row[3:7] for row in before], rtol=1e-12)


def test_candidates_of_an_older_release_become_events_with_their_newest_labels(unmigrated):
    unmigrated.migrate()
    with unmigrated.engine.connect() as connection, alembic_config(connection) as configuration:
        command.downgrade(configuration, "0008")
        connection.commit()
    rows = [  # source, night, epoch, label, comment: one event in three nights, then another of the same source
        (1, "2026-03-01", 61100.0, "?", None), (1, "2026-03-02", 61101.5, "ese", "deep"), (1, "2026-03-03", 61101.0, None, None),
        (1, "2026-03-20", 61119.0, None, "again"), (2, "2026-03-02", 61101.0, None, None),
    ]  # fmt: skip
    with unmigrated.session() as session:
        session.execute(
            text("INSERT INTO sources (source_id, name, ra_deg, dec_deg, origin) VALUES (1, 'a', 1, 2, 'nvss'), (2, 'b', 2, 2, 'nvss')")
        )
        for source, night, epoch, label, comment in rows:
            session.execute(
                text("INSERT INTO ese_candidates VALUES (:source, :night, 1, 6, :epoch, 0.4, 1e-4, 'dip', :label, :comment)"),
                {"source": source, "night": night, "epoch": epoch, "label": label, "comment": comment},
            )
    unmigrated.migrate()
    with unmigrated.session() as session:
        found = session.execute(
            text(
                "SELECT c.source_id, c.night::text, e.peak_mjd, e.first_night::text, l.label, l.comment FROM ese_candidates c "
                "JOIN candidate_events e USING (event_id) LEFT JOIN event_labels l USING (event_id) ORDER BY 1, 2"
            )
        ).all()
    first = (61101.0, "2026-03-01", "ese", "deep")
    assert [tuple(row) for row in found] == [
        *((1, night, *first) for night in ("2026-03-01", "2026-03-02", "2026-03-03")),
        (1, "2026-03-20", 61119.0, "2026-03-20", None, "again"),
        (2, "2026-03-02", 61101.0, "2026-03-02", None, None),
    ]
    with unmigrated.engine.connect() as connection, alembic_config(connection) as configuration:
        command.downgrade(configuration, "0008")
        connection.commit()
    with unmigrated.session() as session:
        assert session.scalar(text("SELECT count(*) FROM ese_candidates WHERE label = 'ese' AND comment = 'deep'")) == 3


def test_labels_of_an_older_release_get_the_name_of_who_gave_them(unmigrated):
    unmigrated.migrate()
    _down(unmigrated, "0014")
    said = (  # event, person, label, comment: what the record of actions has
        (1, "A", "maybe", None), (1, "B", "ese", "deep"), (2, "A", "ese", None), (2, "B", None, None), (3, "A", "variable", None),
    )  # fmt: skip
    with unmigrated.session() as session:
        session.execute(
            text(
                "INSERT INTO sources (source_id, name, ra_deg, dec_deg, origin) SELECT i, 's' || i, i, 2, 'nvss' FROM generate_series(1, 4) i"
            )
        )
        session.execute(
            text(
                "INSERT INTO candidate_events (event_id, source_id, kind, peak_mjd, first_mjd, last_mjd, depth, score, first_night, label, "
                "comment) SELECT i, i, 'dip', 1, 1, 1, 0.5, 6, '2026-03-01', (ARRAY['ese', NULL, 'artifact', NULL])[i], "
                "(ARRAY['deep', NULL, NULL, NULL])[i] FROM generate_series(1, 4) i"
            )
        )
        for event, person, label, comment in said:
            session.execute(
                text(
                    "INSERT INTO api_actions (person, action, subject, details, done_at) VALUES (:person, 'label_event', :event, "
                    "jsonb_build_object('label', CAST(:label AS text), 'comment', CAST(:comment AS text)), clock_timestamp())"
                ),
                {"person": person, "event": str(event), "label": label, "comment": comment},
            )
    unmigrated.migrate()
    current = text(
        "SELECT event_id, person, label, comment FROM event_labels WHERE superseded_at IS NULL AND label IS NOT NULL ORDER BY label_id"
    )
    with unmigrated.session() as session:
        assert sorted(tuple(row) for row in session.execute(current)) == [
            (1, "A", "maybe", None), (1, "B", "ese", "deep"), (3, "A", "variable", None), (3, "unknown", "artifact", None),
        ]  # fmt: skip
        assert session.scalar(text("SELECT count(*) FROM event_labels")) == 6, "what was removed stays in the history"
    _down(unmigrated, "0014")
    with unmigrated.session() as session:
        before = session.execute(text("SELECT event_id, label, comment FROM candidate_events ORDER BY event_id")).all()
    assert [tuple(row) for row in before] == [(1, "ese", "deep"), (2, None, None), (3, "artifact", None), (4, None, None)]
