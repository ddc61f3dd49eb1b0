"""The worker: takes runs from the registry's queue, starts a process for each, gives beats, and ends what was given up.

One process with a thread for each slot, and one thread that gives a beat every few seconds for the worker and all its
runs. A run is a process group of its own with a temporary directory of its own on this host; both are gone when it
ends. `dsa110 worker` starts this module.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import psutil
from celery.signals import worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from dsa110_assets.config import RUN_MARK, PipelineConfig
from dsa110_assets.errors import PipelineError
from dsa110_assets.orchestration.cluster import broker
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.workers import BEAT_S, Host, Order
from dsa110_assets.stages.provenance.installed import Installed, installed

MODULE = "dsa110_assets.orchestration.cluster.worker"
ORDERLY_END_S = 20.0
"""Time for a run to end after it was interrupted; then its processes are killed."""
POLL_S = 0.2
SAME_SIGNAL_S = 2.0
"""Time for the signal that ended a run to reach its worker too: Slurm sends it to every process of a job."""
_WAS_STOPPED = "the worker was stopped"
_SCRATCH = "dsa110-run-"
_log = logging.getLogger("dsa110.worker")


def this_host() -> Host:
    """This host. Two containers of one machine have one boot id of the kernel, but not one namespace of processes."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Host(socket.gethostname(), f"{boot}/{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}")


@dataclass
class _Job:
    """A run at work. ``stop``: why its process is to be ended, ``""`` for none; ``kill``: at once."""

    run_id: str
    process: subprocess.Popen[bytes] | None = None
    stop: str = ""
    kill: bool = False


class Worker:
    """The state of a worker: its runs, and whether it may take another one."""

    def __init__(self, config: PipelineConfig, *, queue: str, slots: int) -> None:
        self.config, self.queue, self.slots = config, queue, slots
        self.host = this_host()
        self.name = f"{self.host.name}:{os.getpid()}"
        self.version = installed(config)
        self.refusal: str | None = None
        self._changed: str | None = None
        self.is_stopping = threading.Event()
        self.has_left = threading.Event()
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(slots)
        self._database = Database.connect(config, migrate=False)
        self._said = ""

    @cached_property
    def _instance(self) -> dg.DagsterInstance:
        return dg.DagsterInstance.get()

    # --- one run ---------------------------------------------------------------------------------------------
    def work(self) -> str | None:
        """Take a run that waits and make it; return it, or None if none waits or no slot is free."""
        if not self._free.acquire(blocking=False):
            return None
        try:
            return self._work()
        finally:
            self._free.release()

    def _work(self) -> str | None:
        try:
            run_id = self._claim()
        except (PipelineError, SQLAlchemyError) as error:  # the beat looks again
            self._say(f"the registry does not answer: {error}")
            return None
        if run_id is None:
            return None
        job = _Job(run_id)
        with self._lock:
            self._jobs[run_id] = job
        try:
            self._make(job)
        finally:
            with self._lock:
                del self._jobs[run_id]
        return run_id

    def _claim(self) -> str | None:
        self._look_at_files()
        if self.is_stopping.is_set() or self.refusal is not None:
            return None
        with self._database.session() as session:
            return workers.claim(session, worker=self.name, host=self.host, queue=self.queue, version=str(self.version))

    def _look_at_files(self) -> None:
        """Refuse work from now on if the files of the package have changed since this worker began."""
        if (how := installed(self.config).difference(self.version)) is not None:
            self._changed = f"the files on this host have changed since the worker began ({how}); restart it"
            self.refusal = self._changed

    def _make(self, job: _Job) -> None:
        _log.info("run %s begins", job.run_id)
        scratch = Path(tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-"))
        reader, writer = os.pipe()
        try:
            command = [sys.executable, "-m", "dsa110_assets.orchestration.cluster.run_process", job.run_id, str(reader)]
            job.process = subprocess.Popen(
                command,
                env={**os.environ, "TMPDIR": str(scratch), RUN_MARK: job.run_id},
                stdin=subprocess.DEVNULL,
                pass_fds=(reader,),
                start_new_session=True,
            )
            self._record(lambda session: workers.record_process(session, job.run_id, job.process.pid if job.process else 0))
            code = self._wait(job, job.process)
        finally:
            os.close(reader)
            os.close(writer)
            shutil.rmtree(scratch, ignore_errors=True)
        self._end(job, code)

    def _end(self, job: _Job, code: int) -> None:
        _log.info("run %s has ended with code %d%s", job.run_id, code, f" ({job.stop})" if job.stop else "")
        if job.stop == _WAS_STOPPED:
            self._record(lambda session: workers.record_stop(session, job.run_id))
        self._report_end(job, code)

    def _wait(self, job: _Job, process: subprocess.Popen[bytes]) -> int:
        """Wait for the process; interrupt and kill it when it is to be ended. What it started ends with it."""
        asked_at: float | None = None
        while (code := process.poll()) is None:
            if self.is_stopping.is_set() and not job.stop:
                job.stop = _WAS_STOPPED
            if job.stop and asked_at is None:
                asked_at = time.monotonic()
                process.send_signal(signal.SIGKILL if job.kill else signal.SIGINT)
                self._note_stop(job)
            if asked_at is not None and time.monotonic() - asked_at > ORDERLY_END_S:
                process.kill()
            time.sleep(POLL_S)
        for one in _processes_of(job.run_id):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        if code != 0 and not job.stop and self.is_stopping.wait(SAME_SIGNAL_S):
            job.stop = _WAS_STOPPED
        return code

    def _note_stop(self, job: _Job) -> None:
        """Record that the worker ends, at once: a service manager that waits no longer kills the worker too."""
        if job.stop != _WAS_STOPPED:
            return
        try:
            with self._database.session() as session:
                workers.record_stop(session, job.run_id)
        except (PipelineError, SQLAlchemyError) as error:
            self._say(f"the registry does not answer: {error}")

    def _report_end(self, job: _Job, code: int) -> None:
        """Tell Dagster of a run that could not tell itself, and the registry of every end."""
        limit = time.monotonic() + self.config.worker_lost_s
        while True:
            try:
                run = self._instance.get_run_by_id(job.run_id)
                if run is not None and not run.is_finished:
                    if run.status == dg.DagsterRunStatus.CANCELING:
                        self._instance.report_run_canceled(run, f"{job.stop or 'Its process ended'} on {self.host.name}.")
                    else:
                        self._instance.report_run_failed(run, f"its process on {self.host.name} ended with code {code} {job.stop}".strip())
                break
            except Exception as error:  # noqa: BLE001 - Dagster's storage raises many kinds while the database is away
                if time.monotonic() > limit:
                    _log.warning("the end of run %s could not be reported: %s", job.run_id, error)
                    break
                time.sleep(1.0)
        self._record(lambda session: workers.record_end(session, job.run_id, code))

    def _record(self, what: Callable[[Any], None]) -> None:
        """Write to the registry, for as long as the run would not be given up without it."""
        limit = time.monotonic() + self.config.worker_lost_s
        while True:
            try:
                with self._database.session() as session:
                    what(session)
            except (PipelineError, SQLAlchemyError) as error:
                if time.monotonic() > limit:
                    self._say(f"the registry does not answer: {error}")
                    return
                time.sleep(1.0)
            else:
                return

    # --- beats -----------------------------------------------------------------------------------------------
    def join(self) -> None:
        """Record this worker, and the end of those of this host that are gone: it takes their place."""
        with self._database.session() as session:
            for other in workers.of_host(session, self.host.name):
                if other.boot_id != self.host.boot_id or not _is_worker(other.pid):
                    workers.leave(session, other.worker)
            workers.join(session, self.name, self.host, pid=os.getpid(), queue=self.queue, slots=self.slots, version=str(self.version))

    def beat(self) -> int:
        """Give one beat, carry out what was ordered; return the number of runs that this worker could take now."""
        with self._lock:
            mine = list(self._jobs)
        with self._database.session() as session:
            orders = workers.beat(session, self.name, mine, self.refusal)
            waiting = workers.waiting(session, self.queue)
            platform = workers.newest_version(session, self.queue)
        for order in orders:
            self._obey(order)
        self._compare(platform)
        ready = waiting.number if str(self.version) in waiting.versions and self.refusal is None else 0
        return 0 if self.is_stopping.is_set() else max(0, min(ready, self.slots - len(mine)))

    def _compare(self, platform: str | None) -> None:
        """Refuse work while the platform has another version, or for good if the files here have changed."""
        self._look_at_files()
        how = None if platform is None else self.version.difference(Installed.parse(platform))
        self.refusal = self._changed or how
        self._say(f"{self.refusal}: this worker takes no run" if self.refusal is not None else "")

    def _obey(self, order: Order) -> None:
        with self._lock:
            job = self._jobs.get(order.run_id)
        if job is None or job.stop:
            return
        job.kill = order.lost_why is not None
        job.stop = f"the run was given up: {order.lost_why}" if order.lost_why is not None else "a person canceled it"

    def work_on(self) -> None:
        """Make runs until none waits."""
        while self.work() is not None:
            pass

    def keep_beating(self) -> None:
        """Give beats until the worker has left; begin runs that no message told of, as when the broker is dead."""
        while not self.has_left.is_set():
            try:
                for _ in range(self.beat()):
                    threading.Thread(target=self.work_on, daemon=True).start()
            except (PipelineError, SQLAlchemyError) as error:
                self._say(f"no beat, the registry does not answer: {' '.join(str(error).split())}")
            self.has_left.wait(BEAT_S)

    def leave(self) -> None:
        """Wait until the runs have ended, and record the orderly end."""
        self.is_stopping.set()
        limit = time.monotonic() + 2 * ORDERLY_END_S
        while self._jobs and time.monotonic() < limit:
            time.sleep(POLL_S)
        self.has_left.set()
        self._record(lambda session: workers.leave(session, self.name))

    def _say(self, what: str) -> None:
        """Log what has changed, once."""
        if what != self._said:
            self._said = what
            if what:
                _log.warning("%s", what)


def _processes_of(run_id: str) -> list[psutil.Process]:
    """Processes that a run has started, directly or not, whatever group they are in."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(RUN_MARK) == run_id:
                found.append(process)
    return found


def _is_worker(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and MODULE in process.cmdline()
    except psutil.Error:
        return False


def remove_leftovers() -> None:
    """Remove temporary directories of runs whose worker is gone."""
    for place in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        pid = place.name.removeprefix(_SCRATCH).partition("-")[0]
        if pid.isdigit() and not _is_worker(int(pid)):
            shutil.rmtree(place, ignore_errors=True)


def serve(config: PipelineConfig, *, queue: str, slots: int) -> None:
    """Work until SIGTERM or Ctrl-C; runs at work are then interrupted, and made elsewhere."""
    signal.signal(signal.SIGTERM, _end)  # until Celery has its own handler
    remove_leftovers()
    worker = Worker(config, queue=queue, slots=slots)
    app = broker.celery_app(config)
    mine = broker.queue_of(queue, str(worker.version))

    app.task(name=broker.WAKE, ignore_result=True)(worker.work_on)

    def stop(**_: object) -> None:
        worker.is_stopping.set()

    worker_shutting_down.connect(stop, weak=False)
    try:
        worker.join()
        threading.Thread(target=worker.keep_beating, daemon=True).start()
        _log.info("worker %s, queue %s, %d slots, version %s", worker.name, queue, slots, worker.version)
        app.Worker(
            pool="threads",
            concurrency=slots,
            queues=[mine],
            hostname=f"dsa110-{os.getpid()}@{worker.host.name}",
            loglevel="WARNING",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        ).start()
    finally:
        worker.leave()


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> None:
    """Run a worker with the settings of the environment."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--queue", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    serve(PipelineConfig.from_env(), queue=options.queue, slots=options.concurrency)


if __name__ == "__main__":
    main()
