"""Running a compiled loop over ranges on several cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any


def over_range(loop: Callable[..., Any], size: int, *arguments: Any, threads: int = 0) -> list[Any]:
    """Call ``loop(first, last, *arguments)`` on consecutive ranges that cover ``size``; return the list of results.

    The loop must release the interpreter's lock and its ranges must be independent. ``threads`` 0 means one per core.
    """
    count = max(1, min(threads or os.cpu_count() or 1, size))
    edges = [size * n // count for n in range(count + 1)]
    if count == 1:
        return [loop(0, size, *arguments)]
    with ThreadPoolExecutor(count) as pool:
        calls = [pool.submit(loop, first, last, *arguments) for first, last in pairwise(edges)]
        return [call.result() for call in calls]
