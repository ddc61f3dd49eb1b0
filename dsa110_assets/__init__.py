"""Data platform of the DSA-110 continuum survey.

Importing the package does one thing: it sets ``CASASITECONFIG`` to a configuration that works off-line. casatools reads
that variable once, when it is first imported (pitfall 36). The import opens, writes and fetches nothing.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

os.environ.setdefault("CASASITECONFIG", str(Path(__file__).with_name("casasiteconfig.py")))
