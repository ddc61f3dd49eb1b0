"""Run the code cells of a notebook in one namespace, as a kernel does. An exception names the notebook and the cell."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run_notebook(path: Path, working_directory: Path) -> dict[str, object]:
    """Execute all code cells in ``working_directory``. Return the namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    before, loop = Path.cwd(), asyncio.new_event_loop()
    os.chdir(working_directory)
    try:
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] == "code":
                name = f"{path.name}, cell {number}"
                done = eval(compile("".join(cell["source"]), name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), namespace)
                if inspect.isawaitable(done):
                    loop.run_until_complete(done)
    finally:
        loop.close()
        os.chdir(before)
    return namespace
