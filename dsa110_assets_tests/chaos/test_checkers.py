"""The checkers of `make chaos`, `make fuzz` and `make soak` find planted faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsa110_assets.registry.database import Database
from dsa110_assets_tests.chaos import kill_matrix
from dsa110_assets_tests.chaos.fuzz import MUTATIONS, fuzz
from dsa110_assets_tests.chaos.soak import SERVICES, Sample, verdict


def night_of_samples(*, leak_mb: float = 0.0, slower: float = 0.0, lost: int = 0) -> list[Sample]:
    return [
        Sample(
            5.0 * i, dict.fromkeys(SERVICES, 200.0) | {"daemon": 200.0 + leak_mb * i}, 1 + i // 15, int((1 + i // 15) * (1 - slower)) - lost
        )
        for i in range(240)
    ]


@pytest.mark.parametrize(
    ("samples", "finding"),
    [
        (night_of_samples(leak_mb=0.3), "the daemon has grown"),
        (night_of_samples(slower=0.5), "observations behind"),
        (night_of_samples(lost=1), "1 observations were never completed"),
    ],
)
def test_the_soak_finds_a_leak_a_growing_lag_and_a_lost_observation(samples: list[Sample], finding: str) -> None:
    assert any(finding in line for line in verdict(samples))


def test_a_quiet_night_passes_the_soak() -> None:
    assert verdict(night_of_samples()) == []


def test_every_kind_of_damage_is_rejected_with_a_reason(database: Database) -> None:
    outcome = fuzz(2 * len(MUTATIONS), 7, database.url)
    assert outcome.findings == []
    assert sum(outcome.verdicts.values()) == 2 * len(MUTATIONS)


def test_the_fuzz_target_finds_a_reader_that_accepts_damaged_headers(database: Database) -> None:
    assert any("SILENT" in finding for finding in fuzz(7 * len(MUTATIONS), 1, database.url, plant="silent").findings)


def test_the_fuzz_target_finds_a_reader_that_crashes(database: Database) -> None:
    findings = fuzz(4 * len(MUTATIONS), 1, database.url, plant="crash").findings
    assert any("CRASH the process died" in finding for finding in findings)


@pytest.mark.fresh_interpreter
def test_pitfall_29_a_killed_conversion_leaves_the_old_measurement_set_or_the_new_one(database: Database, tmp_path: Path) -> None:
    platform, night = kill_matrix.prepared(tmp_path / "night", database.url)
    stage = kill_matrix.stages(platform, night)[0]
    assert [kill_matrix.visit(platform, stage, point) for point in ("renamed", "registered")] == [[], []]


@pytest.mark.fresh_interpreter
def test_pitfall_29_the_kill_matrix_finds_half_a_product(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: publication copies file by file instead of renaming, and dies in the middle."""
    platform, night = kill_matrix.prepared(tmp_path / "night", database.url)
    stage = kill_matrix.stages(platform, night)[0]

    def plant_copying(point: str | None) -> None:
        import os
        import signal

        def copy_and_die(staged: Path, destination: Path) -> None:
            destination.mkdir()
            for file in sorted(staged.glob("table.*"))[:3]:
                (destination / file.name).write_bytes(file.read_bytes())
            os.kill(os.getpid(), signal.SIGKILL)

        if point is not None:
            kill_matrix.publication.move_into_place = copy_and_die

    monkeypatch.setattr(kill_matrix, "_plant", plant_copying)
    assert any("half a product" in line for line in kill_matrix.visit(platform, stage, "renamed"))
