"""Run the code cells of a notebook in one namespace, as a kernel does. An exception names the notebook and the cell."""

from __future__ import annotations

import json
import os
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run_notebook(path: Path, working_directory: Path) -> dict[str, object]:
    """Execute all code cells in ``working_directory``. Return the namespace."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    before = Path.cwd()
    os.chdir(working_directory)
    try:
        for number, cell in enumerate(json.loads(path.read_text())["cells"]):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)
    finally:
        os.chdir(before)
    return namespace
