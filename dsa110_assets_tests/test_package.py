"""What the import of the package sets."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_matrix_products_use_one_thread_unless_the_environment_says_more(given: dict[str, str], threads: int) -> None:
    script = """
import dsa110_assets, numpy, scipy.linalg, threadpoolctl
print(sorted(one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"))
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | given
    said = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100, check=True).stdout
    assert said.strip() == str([min(threads, os.cpu_count() or 1)] * 2), "numpy's and scipy's"
