"""`dsa110 demo`: two simulated nights, from raw files to light curves, through the platform as it runs in production.

Nothing is bypassed. A simulated telescope, in a process of its own, writes raw files into a directory, some of them
broken. The platform that `dsa110 up` starts does the rest. This command only watches the registry, and at the end
compares the measurements with the simulator's sky (`demo_report`).
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.errors import ChildFailedError
from dsa110_assets.files import refuse_replacing

if TYPE_CHECKING:
    from rich.console import Console

    from dsa110_assets.stages.platform import Platform

N_TILES = 12
MIN_JY = 0.25
"""Flux density of the faintest simulated source, Jy. At the beam's 20 % level its S/N is still about 100, so the
demonstration's limit of 0.5 arcsec is three times what noise alone causes, and a failure means a fault."""
TIME_LIMIT_S = 1800.0
POLL_S = 2.0


def demo(
    *,
    no_ui: Annotated[bool, typer.Option("--no-ui", help="Stop the platform at the end; do not leave the UI running.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Only stop a demonstration that is still running.")] = False,
    directory: Annotated[Path, typer.Option(help="Directory for everything; removed first.")] = Path("demo"),
    tiles: Annotated[int, typer.Option(min=2, max=24, help="Observations per night.")] = N_TILES,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the Dagster UI; 0 for any free one.")] = 3000,
) -> None:
    """Run two simulated nights through the whole platform.

    A simulated telescope writes raw files into the watched directory, and the platform takes them to light curves. The
    measurements are then compared with the simulated sky. Exit code 1: an observation failed, or they disagree.

    Example: `dsa110 demo --no-ui`
    """
    from rich.console import Console

    from dsa110_assets.cli import up
    from dsa110_assets.cli.services import free_port, port_is_open
    from dsa110_assets.config import PipelineConfig

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=True, width=120)  # a pipe has no width
    places = DemoPlaces(directory.absolute())
    refuse_replacing(places.root, "a demonstration", DemoPlaces.is_one)
    if places.root.exists():
        os.environ.update(places.settings(port or 3000))
        up.stop(PipelineConfig.from_env(validate_paths=False))
    if stop:
        return
    if port == 0 or port_is_open(port):
        port = free_port()
    passed = run_demo(places, console, tiles=tiles, port=port, keep_running=not no_ui)
    if not passed:
        raise typer.Exit(1)


def run_demo(places: DemoPlaces, console: Console, *, tiles: int, port: int, keep_running: bool) -> bool:
    """Run the demonstration; True if it keeps all its promises."""
    from dsa110_assets.cli import demo_report, up
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.simulation.night import demo_plan
    from dsa110_assets.stages.platform import Platform

    began = time.monotonic()
    refuse_replacing(places.root, "a demonstration", DemoPlaces.is_one)
    shutil.rmtree(places.root, ignore_errors=True)
    settings = places.settings(port)
    os.environ.update(settings)
    places.root.mkdir(parents=True)
    for folder in (places.incoming, places.truth, places.reference):
        folder.mkdir()
    places.environment_file.write_text("".join(f"export {name}={value}\n" for name, value in settings.items()))
    plan = demo_plan(n_tiles=tiles, min_jy=MIN_JY)
    plan.write_references(places.reference)
    plan.write_truth(places.truth)
    console.print(
        f"[bold]DSA-110 demonstration[/]: {len(plan.nights)} nights x {tiles} observations, {len(plan.sky)} sources, {places.root}"
    )

    server = _start_platform(settings, places.root / "up.log")
    spawn = multiprocessing.get_context("spawn")
    next_night = spawn.Event()
    telescope = spawn.Process(target=_simulate_telescope, args=(places.incoming, tiles, next_night), name="telescope", daemon=True)
    config = PipelineConfig.from_env()
    try:
        _wait_for_port(server, port, places.root / "up.log")
        console.print(f"Dagster UI: [link]http://127.0.0.1:{port}[/link]   log: {places.root / 'up.log'}")
        telescope.start()
        platform = Platform.open(config)
        watched = _Watched(len(plan.nights) * tiles, tiles, plan.nights[-1].date, telescope, next_night)
        finished = _watch(platform, console, watched, began)
        report = demo_report.compare(platform, places.truth, plan)
        demo_report.show(console, report, platform, places, port if keep_running else None, time.monotonic() - began)
        platform.database.dispose()
    except BaseException:  # Ctrl-C too must leave no service behind
        up.stop(config)
        raise
    finally:
        if telescope.is_alive():
            telescope.terminate()
    if not keep_running:
        up.stop(config)
    return finished and report.passed


def _start_platform(settings: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "dsa110_assets.cli.main", "up"],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for_port(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    from dsa110_assets.cli.services import port_is_open

    deadline = time.monotonic() + 180
    while not port_is_open(port):
        if server.poll() is not None or time.monotonic() > deadline:
            raise ChildFailedError("dsa110 up", "the platform did not start", f"read {log} and {log.parent / 'state' / 'logs'}")
        time.sleep(0.5)


def _simulate_telescope(incoming: Path, tiles: int, next_night: Event) -> None:
    """Write the files of both nights one by one, some of them broken. The second night waits for ``next_night``."""
    from dsa110_assets.simulation import faults
    from dsa110_assets.simulation.night import demo_plan

    plan = demo_plan(n_tiles=tiles, min_jy=MIN_JY)
    first = plan.simulate(incoming, 0)
    scraps = incoming.parent / "scraps"
    scraps.mkdir()
    victim = Path(shutil.copy(first.files[0][3], scraps / "2026-03-12T04:50:00_sb03.hdf5"))
    faults.truncate(victim)
    victim.rename(incoming / victim.name)
    scraps.rmdir()
    (incoming / "notes from the shift.txt").write_text("a foreign file: listed with a reason, never touched\n")
    faults.duplicate_subband_zero(first.files[1][7])
    next_night.wait(TIME_LIMIT_S)
    for night in range(1, len(plan.nights)):
        plan.simulate(incoming, night)


@dataclass(frozen=True)
class _Watched:
    """What `_watch` waits for: numbers of observations in total and per night, the last night, and the telescope."""

    expected: int
    tiles: int
    last_night: str
    telescope: BaseProcess
    next_night: Event


def _watch(platform: Platform, console: Console, watched: _Watched, began: float) -> bool:
    """Print progress until nothing is left to do; False if time ran out or an observation failed."""
    from dsa110_assets.cli.demo_progress import Progress, read_progress
    from dsa110_assets.stages.queue import planning

    shown: Progress | None = None
    while time.monotonic() - began < TIME_LIMIT_S:
        progress = read_progress(platform, watched.last_night)
        if progress != shown:
            console.print(f"[dim]{time.monotonic() - began:6.0f} s[/]  {progress.line(watched.expected)}")
            shown = progress
        ended = progress.completed + progress.failed
        if ended >= watched.tiles - 1:  # start the second night early, so that the workers do not idle
            watched.next_night.set()
        if (
            ended >= watched.expected
            and not watched.telescope.is_alive()
            and progress.candidates_ranked
            and progress.catalogs_found  # the night's candidates may be there before the last hour's catalog
            and not planning.follow_ups(platform)
        ):
            return progress.failed == 0
        time.sleep(POLL_S)
    console.print(f"[red]not finished after {TIME_LIMIT_S:.0f} s[/]; see {platform.paths.state_dir / 'logs'}")
    return False
