"""The environment of the `dsa110` program: settings for other programs do not change what it does.

Variables of Python that change its meaning (warnings as errors, no assertions, another encoding) make the program start
itself again without them. Variables of PostgreSQL's library that change a session are dropped; those that say where the
server is are dropped unless PIPELINE_DATABASE_URL names a server. PYTHONPATH stays: it replaces code on purpose.
"""

from __future__ import annotations

import locale
import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper

_OF_PYTHON = ("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONIOENCODING", "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONLEGACYWINDOWSSTDIO")
_OF_A_SESSION = ("PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGTARGETSESSIONATTRS", "PGAPPNAME", "PGSERVICE")
_OF_AN_ADDRESS = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE", "PGCHANNELBINDING", "PGREQUIREAUTH")


def make_harmless() -> None:
    """Drop hostile variables; start the program again if the interpreter has already obeyed one of them."""
    for name in hostile_to_sessions(os.environ):
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


def hostile_to_sessions(environment: Mapping[str, str]) -> list[str]:
    """Variables of PostgreSQL's library that must not reach a connection."""
    unwanted = _OF_A_SESSION if "PIPELINE_DATABASE_URL" in environment else (*_OF_A_SESSION, *_OF_AN_ADDRESS)
    return [name for name in unwanted if name in environment]


def _is_utf8() -> bool:
    own = locale.getencoding().lower() in ("utf-8", "utf8") and sys.getfilesystemencoding() == "utf-8"
    return bool(sys.flags.utf8_mode) or own
