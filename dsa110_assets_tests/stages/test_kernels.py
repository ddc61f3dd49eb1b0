"""Loops that are compiled at installation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsa110_assets.stages.operations import kernels


@pytest.mark.parametrize("line", kernels.listed(), ids=lambda line: line.split("(")[0].removeprefix("dsa110_assets."))
def test_a_line_names_a_loop_and_types_that_it_can_be_called_with(line: str) -> None:
    loop, types = kernels.loop_of(line)
    assert loop.compile(types) is not None
    assert line in kernels.compiled([sys.modules[line.split("(", maxsplit=1)[0].rsplit(".", 1)[0]]])


CALL = """
import sys
import numpy as np
from dsa110_assets.flagging._kernels import count_reasons
from dsa110_assets.stages.operations import kernels

if sys.argv[1] == "compile":
    kernels.compile_one(sys.argv[2])
else:
    count_reasons(0, 3, np.zeros((2, 3, 4, 2), np.uint8), np.zeros((3, 8), np.int64), np.zeros((3, 4), np.int64))
print(sum(count_reasons.stats.cache_hits.values()), sum(count_reasons.stats.cache_misses.values()))
"""


def test_a_call_finds_on_disk_what_was_compiled_at_installation(tmp_path: Path) -> None:
    line = next(one for one in kernels.listed() if ".count_reasons(" in one)
    told = [
        subprocess.run(
            [sys.executable, "-c", CALL, step, line],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for step in ("compile", "call")
    ]
    assert told == [["0", "1"], ["1", "0"]]
