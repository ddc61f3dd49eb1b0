"""`make soak`: two full turns of the sky from raw files to light curves, through a platform as a newcomer starts it.

    python -m dsa110_assets_tests.chaos.soak [--turns 2] [--hours 24] [--every 3] [--minutes 100] [--directory DIR]

48 hours of telescope time: 278 contiguous observations in each sidereal day, or every n-th of them, with sources at all
right ascensions. The calibrator 0834+555 transits once in each turn. The observations are as small as the code allows:
17 antennas, sixteen subbands of one channel, six integrations, images of 540 pixels. One source drops by half between
the turns (an extreme scattering event).

Observations are written as fast as the platform works them off. After each twenty, everything comes to rest, and the
memory of each service and the CPU that the idle platform uses are measured. When ``--minutes`` are over, the platform
is stopped; the same command goes on from there, with the same options and directory (build/soak). The report counts
tiles, failures with their causes, light curves, candidates, memory against time and idle CPU, and names what is wrong.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import psutil
from sqlalchemy import text

from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.cli.services import free_port
from dsa110_assets.errors import PipelineError
from dsa110_assets.orchestration.alerting import cause_of
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.night import DEMO_CALIBRATOR_TILE, SIDEREAL_DAY_S, DemoPlan, demo_plan
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.reference import write_reference_catalogs
from dsa110_assets.simulation.sky import CALIBRATOR_NAME, Sky, demo_sky
from dsa110_assets.simulation.tile import SECONDS_PER_DAY, TILE_S, simulate_tile
from dsa110_assets.stages.queue import planning
from dsa110_assets_tests.chaos.pace import SERVICES, private_mb
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import ARRAY, N_INTEGRATIONS, SETTINGS

TILES_PER_TURN = int(SIDEREAL_DAY_S // TILE_S)
FAINTEST_JY = 0.3
DEPTH_OF_STRIP_DEG = 3.2
MOST_WAITING = 4
"""Observations that may wait before the next one is written; enough to keep all workers busy."""
TILES_BETWEEN_RESTS = 20
SETTLE_S = 20.0
"""Until what the last run left behind is done: its process ends, sensors look again, the database cleans up."""
REST_S = 30.0
LONGEST_WAIT_S = 1200.0
"""Without any change for this long, the platform is stuck."""
POLL_S = 2.0
MOST_SLOPE_SIGMA = 3.0
MOST_GROWTH_MB = 12.0
MOST_IDLE_GROWTH = 0.05
MOST_REFUSED = 0.02
"""Share of the tiles; gains drift by 0.3 deg only, so that tables from any time of the day fit."""
MOST_IDLE_CORES = 0.3
"""Of all services together, on a quiet machine. Sensors look every few seconds."""


@cache
def _demo() -> DemoPlan:
    """The demonstration's plan, for its declination, first start and calibrator."""
    return demo_plan(n_tiles=2, min_jy=FAINTEST_JY)


@dataclass(frozen=True)
class Telescope:
    """Which observations are written. ``hours``: of telescope time in each turn. ``every``: n-th observation only."""

    turns: int
    hours: float
    every: int

    @cached_property
    def plan(self) -> list[tuple[int, int]]:
        """(turn, tile) of each observation, in order of time; the calibrator's is always among them."""
        tiles = range(min(TILES_PER_TURN, max(2, round(self.hours * 3600 / TILE_S))))
        chosen = [tile for tile in tiles if tile % self.every == 0 or tile == DEMO_CALIBRATOR_TILE]
        return [(turn, tile) for turn in range(self.turns) for tile in chosen]

    @cached_property
    def sky(self) -> Sky:
        """Sources at all right ascensions; the second one has the event, in the middle of a written observation."""
        demo = _demo()
        tiles = sorted({tile for _, tile in self.plan})
        middle = tiles[len(tiles) // 2]
        first = float(demo.sky.ra_deg[0]) - DEMO_CALIBRATOR_TILE * TILE_S / SIDEREAL_DAY_S * 360.0
        return demo_sky(
            seed=48,
            ra_range_deg=(0.0, 360.0),
            dec_range_deg=(demo.declination_deg - DEPTH_OF_STRIP_DEG, demo.declination_deg + DEPTH_OF_STRIP_DEG),
            min_jy=FAINTEST_JY,
            n_variable=24,
            event=(self.first_mjd + 0.5 * SIDEREAL_DAY_S / SECONDS_PER_DAY, self.first_mjd + 30.0),
            event_position_deg=((first + middle * TILE_S / SIDEREAL_DAY_S * 360.0) % 360.0, demo.declination_deg - 0.35),
            event_jy=1.0,
            epoch_mjd=self.first_mjd,
        )

    @property
    def first_mjd(self) -> float:
        """Center of the first integration of the first turn, UTC."""
        return _demo().nights[0].start_mjd

    def write(self, directory: Path, number: int) -> None:
        """Write the raw files of an observation of the plan; the same ones if it is written again."""
        turn, tile = self.plan[number]
        simulate_tile(
            directory,
            start_mjd=self.first_mjd + (turn * SIDEREAL_DAY_S + tile * TILE_S + 25.0) / SECONDS_PER_DAY,
            declination_deg=_demo().declination_deg,
            sky=self.sky,
            array=ARRAY,
            band=BandPlan(1),
            seed=48,
            n_integrations=N_INTEGRATIONS,
            receivers=Receivers(seed=48, drift_amplitude=0.003, drift_phase_deg=0.3),
        )


@dataclass(frozen=True)
class Rest:
    """The platform at rest. ``hours``: it has run. ``memory_mb``, ``idle_cores``: of each service."""

    hours: float
    written: int
    memory_mb: dict[str, float]
    idle_cores: dict[str, float]


def slope(rests: Sequence[Rest], values: Sequence[float]) -> tuple[float, float]:
    """Growth per hundred observations and its standard error, without the first third; ``values``: one for each rest.

    A straight line is fitted; the scatter around it gives the error. Both are NaN with fewer than four values.
    """
    first = len(rests) // 3
    x, y = np.array([rest.written for rest in rests[first:]]) / 100.0, np.array(values[first:])
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(x) < 4:
        return float("nan"), float("nan")
    x = x - x.mean()
    gradient = float((x * (y - y.mean())).sum() / (x**2).sum())
    scatter = float(np.sqrt(((y - y.mean() - gradient * x) ** 2).sum() / (len(x) - 2)))
    return gradient, scatter / float(np.sqrt((x**2).sum()))


def memory_of(rests: Sequence[Rest], service: str) -> list[float]:
    """Memory of a service (MB) at each rest, NaN if it was not running."""
    return [rest.memory_mb.get(service, float("nan")) for rest in rests]


def findings(rests: Sequence[Rest], counts: dict[str, Any], telescope: Telescope) -> list[str]:
    """What is wrong, in words; empty if the soak has passed."""
    wrong: list[str] = []
    hundreds = (rests[-1].written - rests[len(rests) // 3].written) / 100.0 if rests else 0.0
    for service in SERVICES:
        grows, error = slope(rests, memory_of(rests, service))
        if grows > MOST_SLOPE_SIGMA * error and grows * hundreds > MOST_GROWTH_MB:
            wrong.append(f"the {service} grows by {grows:.1f} +- {error:.1f} MB with each 100 observations")
    idle = [sum(rest.idle_cores.values()) for rest in rests]
    grows, error = slope(rests, idle)
    if grows > MOST_SLOPE_SIGMA * error and grows * hundreds > MOST_IDLE_GROWTH:
        wrong.append(f"the CPU at rest grows by {grows:.2f} +- {error:.2f} cores with each 100 observations")
    if idle and np.median(idle) > MOST_IDLE_CORES:
        wrong.append(f"the platform uses {np.median(idle):.2f} cores at rest")
    written = counts["written"]
    if (ended := sum(counts["observations"].values())) != written:
        wrong.append(f"{written} observations were written, {ended} are in the queue")
    if unfinished := {state: n for state, n in counts["observations"].items() if state != "completed"}:
        wrong.append(f"observations that are not completed: {unfinished}")
    if counts["refused tiles"] > MOST_REFUSED * written:
        wrong.append(f"{counts['refused tiles']} of {written} tiles are refused")
    if counts["failures"]:
        wrong.append(f"{sum(counts['failures'].values())} runs failed; their causes are listed under failures")
    if not counts["sources with light curves"]:
        wrong.append("there are no light curves")
    elif counts["most epochs of a source"] < telescope.turns:
        wrong.append(f"no source has an epoch in each of the {telescope.turns} turns")
    if telescope.turns > 1 and not counts["event is a candidate"]:
        wrong.append("the scattering event is not among the candidates")
    return wrong


class Soak:
    """A soak in a directory, with what it remembers from one call to the next."""

    def __init__(self, root: Path, telescope: Telescope) -> None:
        self.root, self.telescope = root, telescope
        self._facts, self._rests = root / "soak.json", root / "rests.jsonl"

    def prepare(self, port: int) -> dict[str, str]:
        """Make the directories and catalogs, unless an earlier call did; return the platform's settings."""
        places = DemoPlaces(self.root)
        if self._facts.is_file() and json.loads(self._facts.read_text())["telescope"] != asdict(self.telescope):
            raise SystemExit(f"{self.root} holds a soak with other options: {self._facts.read_text()}; remove it or give --directory")
        if not self._facts.is_file():
            shutil.rmtree(self.root, ignore_errors=True)
            for folder in (places.incoming, places.reference):
                folder.mkdir(parents=True)
            write_reference_catalogs(self.telescope.sky, places.reference, calibrators=(CALIBRATOR_NAME,))
            self.remember(0, 0.0)
        return places.settings(port) | SETTINGS | {"PIPELINE_IMAGE_SIZE": "540", "PIPELINE_CELL_ARCSEC": "24", "PIPELINE_MAX_ATTEMPTS": "3"}

    def remember(self, written: int, seconds: float) -> None:
        """Keep the number of observations that were written, and the time for which the platform has run."""
        staged = self._facts.with_suffix(".new")
        staged.write_text(json.dumps({"telescope": asdict(self.telescope), "written": written, "seconds": seconds}))
        staged.replace(self._facts)

    def memory(self) -> tuple[int, float]:
        """What `remember` kept."""
        facts = json.loads(self._facts.read_text())
        return int(facts["written"]), float(facts["seconds"])

    def add_rest(self, rest: Rest) -> None:
        """Append a measurement."""
        with self._rests.open("a") as stream:
            stream.write(json.dumps(asdict(rest)) + "\n")

    def rests(self) -> list[Rest]:
        """All measurements of all calls."""
        return [Rest(**json.loads(line)) for line in self._rests.read_text().splitlines()] if self._rests.is_file() else []

    def run(self, target: RunningPlatform, limit_s: float) -> bool:
        """Write observations until all are worked off; False if the time was over before."""
        written, earlier_s = self.memory()
        began = time.monotonic()
        rested = written // TILES_BETWEEN_RESTS
        while written < len(self.telescope.plan):
            if time.monotonic() - began > limit_s:
                return False
            wait_until(target, lambda: unfinished(target) < MOST_WAITING)
            self.telescope.write(target.config.input_dir, written)
            written += 1
            self.remember(written, earlier_s + time.monotonic() - began)
            if written // TILES_BETWEEN_RESTS > rested or written == len(self.telescope.plan):
                rested = written // TILES_BETWEEN_RESTS
                wait_until(target, lambda n=written: known(target) >= n and at_rest(target))
                rest = measure(target, written, (earlier_s + time.monotonic() - began) / 3600)
                self.add_rest(rest)
                self.remember(written, earlier_s + time.monotonic() - began)
                print(f"{written} of {len(self.telescope.plan)}: {json.dumps(asdict(rest))}", flush=True)
        wait_until(target, lambda: known(target) >= written and at_rest(target))
        return True


def _count(target: RunningPlatform, statement: str) -> int:
    try:
        with target.platform.database.session() as session:
            return int(session.execute(text(statement)).scalar_one())
    except PipelineError:  # the database is being restarted
        return -1


def known(target: RunningPlatform) -> int:
    """Number of observations in the queue."""
    return _count(target, "SELECT count(*) FROM ingest_queue")


def unfinished(target: RunningPlatform) -> int:
    """Observations that have not ended; those that wait for a calibrator do not count."""
    n = _count(target, "SELECT count(*) FROM ingest_queue WHERE state IN ('collecting', 'pending', 'in_progress')")
    return n if n >= 0 else MOST_WAITING


def at_rest(target: RunningPlatform) -> bool:
    """Whether nothing waits, nothing is due, and no run is left."""
    busy = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    return not (unfinished(target) or target.instance.get_runs(dg.RunsFilter(statuses=busy), limit=1) or _due(target))


def _due(target: RunningPlatform) -> list[str]:
    """Work that is due and has not failed for good; the sensor waits with that until an input changes."""
    failed = {
        run.tags.get("dsa110/work") for run in target.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=500)
    }
    return [work.run_key for work in planning.follow_ups(target.platform) if work.run_key not in failed]


def wait_until(target: RunningPlatform, reached: Any) -> None:
    """Wait for a state; if nothing changes for `LONGEST_WAIT_S`, stop waiting and let the report tell."""
    seen, since = -1, time.monotonic()
    while not reached():
        now = _count(target, "SELECT coalesce(max(version_id), 0) FROM product_versions")
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > LONGEST_WAIT_S:
            print(f"nothing has changed for {LONGEST_WAIT_S:.0f} s; due: {_due(target)}", flush=True)
            return
        time.sleep(POLL_S)


def _families(target: RunningPlatform) -> dict[str, list[psutil.Process]]:
    """Processes of each service; the database has one for each session."""
    found = {role: processes[0] for role, processes in target.processes().items() if role in SERVICES and processes}
    return {role: [one, *(one.children(recursive=True) if role == "database" else [])] for role, one in found.items()}


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    spent = 0.0
    for process in processes:
        try:
            spent += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return spent


def measure(target: RunningPlatform, written: int, hours: float) -> Rest:
    """Memory of the services, and the CPU that they use while nothing is due, over `REST_S`."""
    time.sleep(SETTLE_S)
    families = _families(target)
    memory = {role: round(sum(private_mb(process) for process in family), 1) for role, family in families.items()}
    before, began = {role: _cpu_seconds(family) for role, family in families.items()}, time.monotonic()
    time.sleep(REST_S)
    lasted = time.monotonic() - began
    idle = {role: round((_cpu_seconds(family) - before[role]) / lasted, 3) for role, family in families.items()}
    return Rest(round(hours, 3), written, memory, idle)


def count(target: RunningPlatform, telescope: Telescope, written: int) -> dict[str, Any]:
    """What the platform has made of the observations."""
    with target.platform.database.session() as session:

        def pairs(statement: str) -> dict[str, int]:
            return {str(name): int(number) for name, number in session.execute(text(statement)).all()}

        states = pairs("SELECT state, count(*) FROM ingest_queue GROUP BY state")
        refused = session.execute(
            text("SELECT count(DISTINCT key) FROM qa_metrics WHERE product = 'tile_image' AND NOT passed")
        ).scalar_one()
        products = pairs("SELECT product, count(DISTINCT key) FROM product_versions GROUP BY product ORDER BY product")
        epochs = session.execute(text("SELECT count(*) FROM light_curves GROUP BY source_id")).scalars().all()
        candidates = session.execute(
            text("""
            SELECT c.night, c.rank, c.score, s.ra_deg, s.dec_deg FROM ese_candidates c JOIN sources s USING (source_id)
            WHERE night = (SELECT max(night) FROM ese_candidates) ORDER BY rank LIMIT 20""")
        ).all()
    runs = target.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    causes = Counter(f"{run.job_name}: {cause_of(target.instance, run.run_id)[:200]}" for run in runs)
    verdicts = Counter(run.tags["dsa110/verdict"] for run in target.instance.get_runs() if "dsa110/verdict" in run.tags)
    event_ra, event_dec = float(telescope.sky.ra_deg[1]), float(telescope.sky.dec_deg[1])
    return {
        "written": written,
        "observations": states,
        "verdicts of runs": dict(verdicts),
        "refused tiles": int(refused),
        "products": products,
        "failures": dict(causes),
        "sources with light curves": len(epochs),
        "most epochs of a source": max(epochs, default=0),
        "median epochs of a source": float(np.median(epochs)) if epochs else 0.0,
        "candidates": [{"night": str(c.night), "rank": c.rank, "score": round(c.score, 1)} for c in candidates],
        "event is a candidate": any(
            np.hypot((c.ra_deg - event_ra) * np.cos(np.radians(event_dec)), c.dec_deg - event_dec) < 0.02 for c in candidates
        ),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=2, help="of the sky")
    parser.add_argument("--hours", type=float, default=24.0, help="of telescope time in each turn; 24 for all of it")
    parser.add_argument("--every", type=int, default=1, help="write every n-th observation only, and the calibrator's")
    parser.add_argument("--minutes", type=float, default=100.0, help="stop after this long; the same command goes on")
    parser.add_argument("--directory", type=Path, default=Path("build/soak"), help="kept from one call to the next")
    options = parser.parse_args(arguments)
    telescope = Telescope(options.turns, options.hours, options.every)
    soak, port = Soak(options.directory.absolute(), telescope), free_port()
    settings = soak.prepare(port)
    print(f"{len(telescope.plan)} observations, {len(telescope.sky)} sources, {soak.root}", flush=True)
    with running(soak.root, settings, port) as target:
        finished = soak.run(target, options.minutes * 60)
        written, seconds = soak.memory()
        counts = count(target, telescope, written)
    rests = soak.rests()
    report = {
        "hours": round(seconds / 3600, 2),
        **counts,
        "memory (MB) at the last rest": rests[-1].memory_mb if rests else {},
        "growth (MB per 100 observations), its error": {
            name: [round(v, 2) for v in slope(rests, memory_of(rests, name))] for name in SERVICES
        },
        "idle CPU (cores) at each rest": [round(sum(rest.idle_cores.values()), 2) for rest in rests],
        "idle CPU (cores) at the last rest": rests[-1].idle_cores if rests else {},
    }
    print(json.dumps(report, indent=1, default=str))
    if not finished:
        print(f"{written} of {len(telescope.plan)} observations are written; run the same command again to go on", flush=True)
        return 75
    wrong = findings(rests, counts, telescope)
    print("\n".join(wrong) or "light curves, candidates, flat memory and an idle CPU", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
