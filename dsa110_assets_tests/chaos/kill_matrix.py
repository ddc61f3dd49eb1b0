"""Kill each stage at each of its commit points and run it again: one whole product remains, the old or the new one.

``python -m dsa110_assets_tests.chaos.kill_matrix``; part of `make chaos`. A stage runs in a forked child that sends
itself SIGKILL at a point: ``written`` (the product is in staging), ``renamed`` (in place, not registered),
``registered`` (its row is written, the transaction open), ``committed``. Each point is visited twice: without and with
an old product.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsa110_assets import products, publication
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.contents import agrees
from dsa110_assets.stages.queue import intake
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.times import JD_MINUS_MJD, group_id_of, hour_partition
from dsa110_assets_tests.chaos.small_night import CALIBRATOR_TILE, SmallNight, prepare

POINTS = ("written", "renamed", "registered", "committed")


@dataclass(frozen=True)
class Stage:
    """A stage. ``product``, ``key``: in `product_versions`. ``make``: its function. ``path``: None for rows only."""

    product: str
    key: str
    make: Callable[[Platform], Any]
    path: Path | None

    @property
    def points(self) -> tuple[str, ...]:
        """Commit points of the stage."""
        return POINTS if self.path is not None else POINTS[2:]


def stages(platform: Platform, night: SmallNight) -> list[Stage]:
    """The stages in order. Each uses the products of those before it."""
    from dsa110_assets.stages.products import calibrator, hour, tile

    group_id = group_id_of(night.start_mjd(CALIBRATOR_TILE) + JD_MINUS_MJD)
    date, hour_name = hour_partition(group_id)
    paths = platform.paths
    mosaic = paths.mosaic_dir(products.hourly_mosaic_name(date, hour_name))

    def run() -> TileRun:
        return TileRun(group_id, uuid.uuid4().hex)

    return [
        Stage("measurement_set", group_id, lambda p: tile.make_measurement_set(p, run()), paths.measurement_set(group_id)),
        Stage(
            "calibration_tables",
            group_id,
            lambda p: calibrator.solve_transit(p, group_id, "0834+555", "r"),
            paths.calibration_dir(group_id),
        ),
        Stage("calibrated_ms", group_id, lambda p: tile.calibrate(p, run()), paths.calibrated_ms(group_id)),
        Stage("tile_image", group_id, lambda p: tile.make_image(p, run()), paths.image_dir(group_id)),
        Stage("hourly_mosaic", f"{date}T{hour_name}", lambda p: hour.make_mosaic(p, date, hour_name, "r"), mosaic),
        Stage("source_catalog", f"{date}T{hour_name}", lambda p: hour.find_sources(p, date, hour_name, "r"), None),
        Stage("forced_photometry", f"{date}T{hour_name}", lambda p: hour.measure(p, date, hour_name, "r"), None),
    ]


def make_in_child(stage: Stage, config: PipelineConfig, point: str | None) -> int:
    """Make the product in a child, which kills itself at the point if one is given. Return its wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        _plant(point)
        stage.make(Platform.open(config))
        sys.stdout.flush()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the child must not continue in the parent's code
        sys.stderr.write(f"{stage.product}: {type(error).__name__}: {error}\n")
    os._exit(code)


def _plant(point: str | None) -> None:
    """Replace the function of a commit point with one that dies there."""

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if point == "written":
        publication.move_into_place = die
    elif point == "renamed":
        real = publication.move_into_place

        def rename_and_die(staged: Path, destination: Path) -> None:
            real(staged, destination)
            die()

        publication.move_into_place = rename_and_die
    elif point is not None:
        from dsa110_assets.stages.provenance import versions

        record, session_of, registered = versions.record_version, Database.session, list[bool]()

        def record_and_remember(*arguments: Any, **options: Any) -> int:
            version_id = record(*arguments, **options)
            registered.append(True)
            return version_id

        @contextlib.contextmanager
        def session_and_die(self: Database) -> Iterator[Any]:
            with session_of(self) as session:
                yield session
                if registered and point == "registered":
                    session.flush()
                    die()
            if registered:
                die()

        versions.record_version = record_and_remember
        Database.session = session_and_die  # type: ignore[method-assign]


def visit(platform: Platform, stage: Stage, point: str) -> list[str]:
    """Kill the stage at the point, check, run it again, check. Return the errors."""
    name = f"{stage.product} at `{point}`"
    wrong: list[str] = []
    before = _state(platform, stage)
    status = make_in_child(stage, platform.config, point)
    if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
        return [f"{name}: the child was not killed, but ended with status {status}"]
    after = _state(platform, stage)
    wrong += [f"{name}, killed: {line}" for line in _incomplete(stage, after)]
    if point == "written" and after != before:
        wrong.append(f"{name}: the old product has changed although nothing was published")
    if point in ("renamed", "registered") and after[0] != before[0]:
        wrong.append(f"{name}: a version is registered although the transaction was not committed")
    for one in intake.in_progress(platform):
        intake.return_after_death(platform, one, "killed on purpose", intake.RunEnd.DIED)
    status = make_in_child(stage, platform.config, None)
    if status != 0:
        return [*wrong, f"{name}: making it again ended with status {status}"]
    again = _state(platform, stage)
    wrong += [f"{name}, made again: {line}" for line in _incomplete(stage, again)]
    if again[0] == before[0] or again[0] is None:
        wrong.append(f"{name}: making it again registered nothing")
    found = audit(platform.database, platform.paths, contents="checksum", agrees=agrees, settling_s=0.0)
    wrong += [
        f"{name}, made again: {difference.kind} {difference.product} {difference.path}"
        for difference in found
        if stage.path is None or str(stage.path) == difference.path
    ]
    return wrong


def _state(platform: Platform, stage: Stage) -> tuple[int | None, str | None]:
    """Registered version, and checksum of the product on disk."""
    with platform.database.session() as session:
        version = current_version(session, stage.product, stage.key)
    checksum = publication.checksum(stage.path) if stage.path is not None and stage.path.exists() else None
    return None if version is None else version.version_id, checksum


def _incomplete(stage: Stage, state: tuple[int | None, str | None]) -> Iterator[str]:
    """Read the product on disk and yield its errors."""
    from astropy.io import fits
    from casacore.tables import table

    if stage.path is None or state[1] is None:
        return
    try:
        if stage.path.suffix == ".ms":
            from dsa110_assets.conversion import verify_ms

            verify_ms(stage.path)
        for caltable in stage.path.glob("*.cal"):
            with table(os.fspath(caltable), ack=False) as opened:
                if opened.nrows() == 0:
                    yield f"{caltable} is empty"
        for image in stage.path.glob("*.fits"):
            fits.getdata(image)
    except Exception as error:  # noqa: BLE001 - any error of a reader is a finding
        yield f"half a product: {error}"
    if sum(1 for _ in stage.path.parent.glob(f"{stage.path.name}*")) != 1:
        yield f"{stage.path} is not alone: {sorted(p.name for p in stage.path.parent.iterdir())}"


def matrix(platform: Platform, night: SmallNight, *, only: str | None = None) -> tuple[dict[str, int], list[str]]:
    """Visit all points. Return the visits of each stage, and the errors. Each stage's product exists at the end."""
    visits: dict[str, int] = {}
    wrong: list[str] = []
    for stage in stages(platform, night):
        for old_product in (False, True):
            for point in stage.points:
                if not old_product and stage.path is not None:
                    _forget(platform, stage)
                wrong += visit(platform, stage, point)
                visits[stage.product] = visits.get(stage.product, 0) + 1
        if stage.product == only:
            break
    return visits, wrong


def _forget(platform: Platform, stage: Stage) -> None:
    """Remove the product and its versions."""
    from sqlalchemy import delete

    from dsa110_assets.registry.schema import ProductVersion

    if stage.path is not None:
        shutil.rmtree(stage.path, ignore_errors=True)
    with platform.database.session() as session:
        session.execute(delete(ProductVersion).where(ProductVersion.product == stage.product, ProductVersion.key == stage.key))


def prepared(root: Path, url: str | None = None) -> tuple[Platform, SmallNight]:
    """A platform with catalogs, and with the raw files of the calibrator's observation, which is pending."""
    from dsa110_assets.stages.products import references

    night = SmallNight.of(2)
    _, settings = prepare(root, night, 3999)
    values: dict[str, Any] = {name.removeprefix("PIPELINE_").lower(): value for name, value in settings.items()}
    if url is not None:
        values["database_url"] = url
    config = PipelineConfig(_env_file=None, **values)  # type: ignore[call-arg]
    for folder in (config.output_dir, config.scratch_dir, config.state_dir):
        folder.mkdir(parents=True, exist_ok=True)
    raw = Stage("raw files", "", lambda _: night.write(config.input_dir, CALIBRATOR_TILE), None)
    assert make_in_child(raw, config, None) == 0  # in a child: a process that has used OpenMP cannot fork
    platform = Platform.open(config)
    references.refresh_calibrators(platform, "r")
    references.refresh_nvss(platform, "r")
    references.refresh_monitored(platform, "r")
    intake.scan_input(platform)
    platform.database.dispose()  # children must not share its connections
    return platform, night


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    from dsa110_assets.registry.server import EmbeddedServer
    from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

    with tempfile.TemporaryDirectory(prefix="dsa110-kills-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres", settings=TEST_SETTINGS)
        try:
            Database(server.ensure().url("postgres")).migrate()
            platform, night = prepared(Path(folder) / "night", server.ensure().url("postgres"))
            visits, wrong = matrix(platform, night)
        finally:
            server.stop(immediate=True)
    print("\n".join(wrong))
    print(json.dumps({"kills at commit points": sum(visits.values()), **visits, "wrong": len(wrong)}))
    print("BROKEN" if wrong else "after each kill the old product or the new one is whole, and the next attempt registers one", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
