"""Data platform of the DSA-110 continuum survey.

Importing the package sets two variables of the environment, unless they are set; it opens, writes and fetches nothing.

* ``CASASITECONFIG``: a configuration that works off-line. casatools reads it once, when it is first imported (pitfall
  36).
* ``OPENBLAS_NUM_THREADS``: 1. Matrix products here are small and many. On a busy machine, threads of OpenBLAS mostly
  wait for one another, and burn CPU time meanwhile. What is worth both cores is divided by the stages themselves.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

os.environ.setdefault("CASASITECONFIG", str(Path(__file__).with_name("casasiteconfig.py")))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
