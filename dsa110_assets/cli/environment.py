"""The environment of the `dsa110` program: settings for other programs do not change what it does.

Variables of Python that change its meaning (warnings as errors, no assertions, another encoding) make the program start
itself again without them. Variables of PostgreSQL's library (`registry.environment`) are dropped. PYTHONPATH stays:
it replaces code on purpose.
"""

from __future__ import annotations

import locale
import os
import sys
from io import TextIOWrapper

from dsa110_assets.registry.environment import hostile

_OF_PYTHON = ("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONIOENCODING", "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONLEGACYWINDOWSSTDIO")


def make_harmless() -> None:
    """Drop hostile variables; start the program again if the interpreter has already obeyed one of them."""
    for name in hostile(os.environ):
        del os.environ[name]
    obeyed = [name for name in _OF_PYTHON if name in os.environ]
    if (obeyed or not _is_utf8()) and not sys.flags.ignore_environment:
        for name in obeyed:
            del os.environ[name]
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files that are not UTF-8


def _is_utf8() -> bool:
    own = locale.getencoding().lower() in ("utf-8", "utf8") and sys.getfilesystemencoding() == "utf-8"
    return bool(sys.flags.utf8_mode) or own
