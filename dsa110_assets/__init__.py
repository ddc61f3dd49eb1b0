"""Data platform of the DSA-110 continuum survey.

Importing the package does one thing: it names the CASA configuration that works off-line, because casatools reads
``CASASITECONFIG`` once, when it is first imported (pitfall 36). Nothing is opened, written or fetched.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

os.environ.setdefault("CASASITECONFIG", str(Path(__file__).with_name("casasiteconfig.py")))
