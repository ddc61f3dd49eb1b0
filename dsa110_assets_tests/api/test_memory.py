"""The memory of the API does not grow with its answers."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

MANY_THREADS = """
import ctypes, threading
from dsa110_assets.api.memory import bound_arenas
{call}
together = threading.Barrier(20)
def work():
    together.wait()
    kept = [bytes(3000 + number) for number in range(20_000)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(20)]
[one.start() for one in threads]
[one.join() for one in threads]
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""
"""20 threads take memory at the same moment; then glibc's own count of arenas."""


def arenas(call: str) -> int:
    answer = subprocess.run([sys.executable, "-c", MANY_THREADS.format(call=call)], capture_output=True, text=True, check=True, timeout=200)
    return answer.stdout.count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no arenas")
def test_all_threads_of_the_api_take_memory_from_two_arenas():
    assert arenas("bound_arenas()") <= 2
    assert arenas("") > 2, "otherwise this shows nothing"


REPLACED = """
import psutil
from dsa110_assets.api.memory import give_back
def held(): return psutil.Process().memory_info().rss / 2**20
begin = held()
old = [str(number) * 20 for number in range(500_000)]
between = [str(number) * 20 for number in range(100)]
full = held()
del old
give_back()
print(begin, full, held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot return memory")
def test_the_memory_of_a_replaced_value_goes_back_to_the_system():
    answer = subprocess.run([sys.executable, "-c", REPLACED], capture_output=True, text=True, check=True, timeout=200)
    begin, full, left = map(float, answer.stdout.split())
    assert full - begin > 50
    assert left - begin < 0.3 * (full - begin)
