"""Workers as pilot jobs of Debian's Slurm, with `deploy/slurm/worker.sbatch`. They are canceled and run out of time."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from dsa110_assets.registry.schema import IngestGroup, RunWorker
from dsa110_assets_tests.chaos import hosts
from dsa110_assets_tests.chaos.cluster import Cluster, attack, cluster_of
from dsa110_assets_tests.deploy import slurm
from dsa110_assets_tests.deploy.slurm import Slurm, running_slurm

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.filterwarnings("ignore:File may have been truncated"),  # half an image is one of the planted faults
]
SCRIPT = Path(__file__).parents[2] / "deploy/slurm/worker.sbatch"
WHY_NOT = slurm.why_not_possible() or hosts.why_not_possible()


def at_work(cluster: Cluster, worker_of: set[str]) -> list[RunWorker]:
    """Runs at work in workers other than these."""
    with cluster.target.platform.database.session() as session:
        query = select(RunWorker).where(RunWorker.ended_at.is_(None), RunWorker.lost_at.is_(None), RunWorker.pid.is_not(None))
        return [row for row in session.scalars(query) if row.worker not in worker_of]


def failures(cluster: Cluster) -> dict[str, str]:
    """Observations that count a failure, with their error."""
    with cluster.target.platform.database.session() as session:
        rows = session.scalars(select(IngestGroup).where(IngestGroup.failures > 0))
        return {row.group_id: f"{row.failures} of {row.attempt} attempts: {row.state}: {row.error_type}: {row.error}" for row in rows}


@pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
def test_pilot_jobs_make_the_runs_and_nothing_is_lost_when_they_are_canceled_or_out_of_time(tmp_path: Path) -> None:
    home = tmp_path / "slurm"
    home.mkdir()
    before = dict(os.environ)
    try:
        with running_slurm(home) as cluster_manager, cluster_of(tmp_path / "platform", number=0, n_tiles=4, slots=2) as cluster:
            _use(cluster, cluster_manager)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _use(cluster: Cluster, manager: Slurm) -> None:
    settings = manager.root / "settings"
    settings.write_text("# as on every host\n" + "".join(f"{name}={text}\n" for name, text in cluster.settings.items()))
    given = {"DSA110_SETTINGS": str(settings), "DSA110_PROGRAM": str(Path(sys.executable).with_name("dsa110"))}
    small = ("--cpus-per-task=4", "--mem=0")

    first = manager.submit(SCRIPT, *small, **given)
    cluster.arrive(2)
    cluster.wait("runs work in the first job", lambda: len(at_work(cluster, set())) > 0)
    time.sleep(8.0)  # they are past their imports
    runs = at_work(cluster, set())
    seen = {str(row.worker) for row in runs}
    manager.run("scancel", first)
    took = manager.wait(first, "CANCELLED")
    cluster.wait("the runs of the canceled job are over", lambda: cluster.are_lost([row.run_id for row in runs]))
    print(f"canceled with {len(runs)} runs at work; the job was gone after {took:.1f} s")

    second = manager.submit(SCRIPT, *small, "--time=2", "--signal=B:TERM@30", **given)
    cluster.wait("runs work in the second job", lambda: len(at_work(cluster, seen)) > 0)
    seen |= {str(row.worker) for row in at_work(cluster, seen)}
    took = manager.wait(second, "COMPLETED", "TIMEOUT", "FAILED", "CANCELLED")
    assert manager.state(second) == "COMPLETED", "the worker ended in order before its time was over"
    print(f"the second job ended in order, {took:.0f} s after its first run had begun")
    assert failures(cluster) == {}, "neither a canceled job nor the end of its time is a failure of an observation"

    manager.submit(SCRIPT, *small, **given)
    figures = attack(cluster, [])
    print({name: figures[name] for name in ("observations", "attempts", "runs", "then quiet after (s)")})
    assert figures["good"], figures
    assert failures(cluster) == {}
    with cluster.target.platform.database.session() as session:
        rows = list(session.scalars(select(RunWorker).where(RunWorker.claimed_at.is_not(None))))
    assert len({row.worker for row in rows}) == 3, "each job made runs"
