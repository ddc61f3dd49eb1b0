"""The process of one run on a worker: Dagster's own command, which ends with its worker, however that dies.

The worker keeps the other end of a pipe. When it closes, the worker is gone, and nobody would give a beat for this run.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

import psutil


def end_with_worker(descriptor: int) -> None:
    """Kill this process and everything that it started once the pipe closes."""
    with suppress(OSError):
        while os.read(descriptor, 1):
            pass
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    os.kill(os.getpid(), 9)


def main(run_id: str, descriptor: int) -> None:
    """Execute a run."""
    threading.Thread(target=end_with_worker, args=(descriptor,), daemon=True).start()
    from dsa110_assets.orchestration.private import execute_run

    execute_run(run_id)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
