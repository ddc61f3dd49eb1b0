"""The code server: Dagster's own (`dagster api grpc`), whose runs are forks of a process that has imported the code.

Dagster starts each run in a new interpreter, which imports Dagster and the definitions (1.6 CPU seconds) and what its
stages need (up to 3) anew. Here a template process does that once (`run_template`; multiprocessing's "forkserver").
Each run is still a process of its own, and takes nobody along when it crashes. The template ends with the code server
and its runs. If it dies, multiprocessing starts another one for the next run.
"""

from __future__ import annotations

import sys

from dsa110_assets.orchestration.private import serve_code

if __name__ == "__main__":  # and not in a run, which imports its parent's main module too
    serve_code(sys.argv[1:], template="dsa110_assets.orchestration.run_template")
