"""Removal by rules: staging left by crashes, old parts of products, run logs and versions.

Raw files are never touched. A person decides about unregistered products (`dsa110 db check`). A removal is planned
first and carried out as planned, so a dry run lists the same.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dsa110_assets import publication, staging
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.queries import storage
from dsa110_assets.registry.queries.storage import PartOnDisk
from dsa110_assets.stages.operations import old_rows, retiring
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.table import TABLE

RULES = ("staging", "run_logs", *sorted({part.rule for row in TABLE for part in row.parts}), *(rule.name for rule in old_rows.RULES))
"""All rules by name; the playbook explains each."""
_DAY_S = 86400.0


@dataclass(frozen=True)
class Removal:
    """One removal. ``what``: a path, or rows in words. ``size_bytes``: space that it frees, 0 if unknown.

    ``part``: of a product. ``problem``: why it could not be removed.
    """

    rule: str
    what: str
    size_bytes: int
    reason: str
    part: PartOnDisk | None = None
    problem: str = ""


def plan(platform: Platform, now: datetime, *, thorough: bool = False) -> list[Removal]:
    """Return what the rules remove at this time.

    ``thorough``: also walk all product folders for staging that is not in the journal, as older releases left it, and
    try again to remove parts that could not be removed.
    """
    config = platform.config
    found = [*_staging(platform, thorough=thorough), *_run_logs(config)]
    parts = retiring.due(platform, now)
    with platform.database.session() as session:
        if thorough:
            parts = [*storage.parts_with_problems(session), *parts]
        rows = {rule: rule.count(session, config, now) for rule in old_rows.RULES}
    known = retiring.rules(config)
    for one in parts:
        part, days = known[one.rule]
        found.append(Removal(one.rule, one.path, one.size_bytes, f"older than {days:g} days; ends {part.lost}", one))
    for rule, number in rows.items():
        if number:
            found.append(Removal(rule.name, f"{number} {rule.what}", 0, f"older than {rule.days(config):g} days"))
    return found


def carry_out(platform: Platform, removals: list[Removal], now: datetime) -> list[Removal]:
    """Remove what was planned; return it with the problems. One that cannot be removed does not end the others.

    It is no error if something no longer exists.
    """
    staging.sweep(platform.paths.staging_journal)
    return [replace(one, problem=_carry_out(platform, one, now) or "") for one in removals]


def _carry_out(platform: Platform, one: Removal, now: datetime) -> str | None:
    if one.part is not None:
        return retiring.retire(platform, one.part, now)
    for rule in old_rows.RULES:
        if one.rule == rule.name:
            rule.delete(platform.database, platform.config, now)
            return None
    path = Path(one.what)
    if one.rule == "staging":
        staging.remove_staged(path)
    else:
        shutil.rmtree(path, ignore_errors=True)
    return "some of its files cannot be removed; check their permissions" if path.exists() else None


# --- files ----------------------------------------------------------------------------------------------------------
def _staging(platform: Platform, *, thorough: bool) -> Iterator[Removal]:
    journal = platform.paths.staging_journal
    left = staging.left_by_crashes(journal)
    for place in left:
        yield Removal("staging", str(place), publication.size_bytes(place), "left by a crash")
    if not thorough:
        return
    limit = time.time() - platform.config.keep_staging_hours * 3600
    known = {*left, *staging.in_use(journal)}
    for root in platform.paths.staging_roots():
        for place in publication.staged_products(root):
            if place not in known and publication.newest_change(place) < limit:
                reason = f"not in the journal, older than {platform.config.keep_staging_hours:g} h"
                yield Removal("staging", str(place), publication.size_bytes(place), reason)


def _run_logs(config: PipelineConfig) -> Iterator[Removal]:
    limit = time.time() - config.keep_run_logs_days * _DAY_S
    outputs = config.run_output_dir
    for folder in sorted(outputs.iterdir()) if outputs.is_dir() else []:
        if (folder / "compute_logs").is_dir() and publication.newest_change(folder) < limit:
            yield Removal(
                "run_logs", str(folder), publication.size_bytes(folder), f"output of a run, older than {config.keep_run_logs_days:g} days"
            )
