"""The process of which runs are forks: importing this module imports everything that a run needs (`code_server`).

It has one thread, no connection and no open file, and makes nothing itself. A service manager's SIGTERM is not for it:
without the template, the code server would take runs that are about to stop for dead.
"""

from __future__ import annotations

import os
import pkgutil
import signal
from importlib import import_module
from pathlib import Path

from dsa110_assets import stages
from dsa110_assets.orchestration.running import RUN_NAME
from dsa110_assets.stages.provenance.recipes import modules_of_recipes


def _become_run() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Path("/proc/self/comm").write_text(RUN_NAME)


signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.register_at_fork(after_in_child=_become_run)
for _module in ("dsa110_assets.definitions", "dsa110_assets.orchestration.storage", *modules_of_recipes()):
    import_module(_module)
for _found in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}."):
    import_module(_found.name)
import_module("numba").njit(lambda: None)()  # numba learns its types at the first use of a compiled function: 0.5 s
