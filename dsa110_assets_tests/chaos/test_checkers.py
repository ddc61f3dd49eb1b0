"""The checkers of `make chaos`, `make fuzz`, `make pace` and `make soak` find planted faults."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import psutil
import pytest

from dsa110_assets.registry.database import Database
from dsa110_assets_tests.chaos import kill_matrix, soak
from dsa110_assets_tests.chaos.fuzz import MUTATIONS, fuzz
from dsa110_assets_tests.chaos.pace import SERVICES, Sample, private_mb, verdict


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
def test_the_pace_test_finds_a_leak_a_growing_lag_and_a_lost_observation(samples: list[Sample], finding: str) -> None:
    assert any(finding in line for line in verdict(samples))


def test_a_quiet_night_passes_the_pace_test() -> None:
    assert verdict(night_of_samples()) == []


WHOLE_SKY = soak.Telescope(turns=2, hours=24.0, every=3)
DONE = {
    "written": 188, "observations": {"completed": 188}, "failures": {}, "sources with light curves": 500, "most epochs of a source": 2,
    "event is a candidate": True, "refused tiles": 0,
}  # fmt: skip


def rests(*, leak_mb: float = 0.0, busier: float = 0.0) -> list[soak.Rest]:
    noise = [0.3, -0.2, 0.1, -0.4, 0.2, 0.0, -0.1, 0.3, -0.3, 0.1]
    return [
        soak.Rest(0.2 * i, 20 * i, dict.fromkeys(SERVICES, 200.0 + n) | {"daemon": 120.0 + leak_mb * i + n}, {"daemon": 0.1 + busier * i})
        for i, n in enumerate(noise, 1)
    ]


def test_a_soak_with_flat_memory_light_curves_and_the_event_passes() -> None:
    assert soak.findings(rests(), DONE, WHOLE_SKY) == []


@pytest.mark.parametrize(
    ("found", "counts", "finding"),
    [
        (rests(leak_mb=4.0), {}, "the daemon grows by 20"),
        (rests(busier=0.02), {}, "the CPU at rest grows"),
        (rests(), {"observations": {"completed": 187, "failed": 1}}, "not completed: {'failed': 1}"),
        (rests(), {"observations": {"completed": 187}}, "187 are in the queue"),
        (rests(), {"failures": {"night: no epoch has 3 reference sources": 2}}, "2 runs failed"),
        (rests(), {"refused tiles": 46}, "46 of 188 tiles are refused"),
        (rests(), {"sources with light curves": 0}, "no light curves"),
        (rests(), {"most epochs of a source": 1}, "no source has an epoch in each"),
        (rests(), {"event is a candidate": False}, "the scattering event is not among"),
    ],
)
def test_the_soak_names_what_is_wrong(found: list[soak.Rest], counts: dict[str, Any], finding: str) -> None:
    (line,) = soak.findings(found, DONE | counts, WHOLE_SKY)
    assert finding in line


def test_the_soak_takes_the_calibrator_of_each_turn_and_every_third_observation() -> None:
    assert len(WHOLE_SKY.plan) == 188
    assert {(turn, 1) for turn in range(2)} <= set(WHOLE_SKY.plan)
    assert WHOLE_SKY.plan == sorted(WHOLE_SKY.plan)


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


def test_the_memory_of_a_process_is_its_own_and_not_what_it_shares() -> None:
    """Pages of a shared mapping count as private in the kernel's sums until a second process touches them."""
    before = private_mb(psutil.Process())
    own, shared = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), mmap.mmap(-1, 40 << 20)
    try:
        shared.write(b"x" * (40 << 20))
        assert abs(private_mb(psutil.Process()) - before) < 10
        own.write(b"x" * (40 << 20))
        assert private_mb(psutil.Process()) - before == pytest.approx(42, abs=10)
    finally:
        own.close()
        shared.close()
