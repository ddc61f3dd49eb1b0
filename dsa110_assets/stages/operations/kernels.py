"""Compiles the loops of all stages ahead of their first use: `python -m dsa110_assets.stages.operations.kernels`.

Numba compiles a loop when it is first called with arguments of some types, and keeps the result on disk, beside the
code. In a new installation the first night would wait for that, a minute of CPU in all, and every process that needs a
loop at the same time would compile it, too. `kernels.txt` lists each loop that a night calls, with the types of its
arguments in numba's notation. A loop that it lacks is compiled when it is called.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

LIST = Path(__file__).with_name("kernels.txt")


def listed() -> list[str]:
    """Lines of the list, ``module.loop(types)``; those that take longest to compile come first."""
    return [line for line in LIST.read_text().splitlines() if line and not line.startswith("#")]


def loop_of(line: str) -> tuple[Any, tuple[Any, ...]]:
    """The loop of a line, which is not compiled yet, and the types of its arguments."""
    from numba.core.sigutils import normalize_signature

    name, types = line.split("(", 1)
    module, loop = name.rsplit(".", 1)
    # a tuple, as in a call: on disk, numba knows a loop by exactly what it was compiled for, text or tuple
    return getattr(importlib.import_module(module), loop), tuple(normalize_signature(f"({types}")[0])


def compile_one(line: str) -> None:
    """Compile the loop of a line, or find it on disk."""
    loop, types = loop_of(line)
    loop.compile(types)


def compiled(modules: Sequence[ModuleType]) -> list[str]:
    """Loops of some modules that this process has compiled or read from disk so far, as in the list."""
    from numba.core.dispatcher import Dispatcher

    found: set[str] = set()
    for module in modules:
        for name, loop in vars(module).items():
            if isinstance(loop, Dispatcher) and loop.py_func.__module__ == module.__name__:
                found |= {f"{module.__name__}.{name}({', '.join(map(_notation, one.args))})" for one in loop.nopython_signatures}
    return sorted(found)


def _notation(of: Any) -> str:
    """A type in numba's notation, ``float32[:,::1]`` for rows one after the other."""
    from numba import types

    if not isinstance(of, types.Array):
        return str(of)
    axes = [":"] * of.ndim
    if of.layout == "C":
        axes[-1] = "::1"
    elif of.layout == "F":
        axes[0] = "::1"
    return f"{of.dtype}[{','.join(axes)}]"


def main() -> None:
    """Compile all of the list, on all cores."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=spawn) as pool:  # a killed process ends it with an error
        for _ in pool.map(compile_one, listed()):
            pass


if __name__ == "__main__":
    sys.exit(main())
