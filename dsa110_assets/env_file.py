"""The file ``.env`` and the names in the environment, before `config` reads them: what its library does not tell.

It waits for ever for a pipe, skips lines that it does not understand, and knows no wrong names. What settings mean does
not belong here.
"""

from __future__ import annotations

import difflib
import io
import os
from collections.abc import Iterable
from pathlib import Path

from dotenv.parser import parse_stream

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.files import printable, why_not_openable

PREFIX = "PIPELINE_"
_NEXT_STEP = "correct it: a line is NAME=VALUE, a comment begins with #"


def read_env_file(path: Path) -> dict[str, str]:
    """Read names and values of a ``.env``; none if there is no file of this name (a directory is often an environment).

    Raises:
        ConfigurationError: it is a pipe, cannot be read, is not UTF-8, or has a line that is no setting.
    """
    if not (path.is_file() or path.is_fifo()):
        return {}
    if (why := why_not_openable(path)) is not None:
        raise ConfigurationError(path.absolute(), why, "remove it, or make it a readable file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigurationError(path.absolute(), f"line {line} is not UTF-8", _NEXT_STEP) from error
    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            written = printable(binding.original.string.strip())[:80]
            raise ConfigurationError(path.absolute(), f"line {binding.original.line} is no setting: {written}", _NEXT_STEP)
        if binding.key is not None:
            found[binding.key] = binding.value or ""
    return found


def unknown_settings(known: Iterable[str], names: Iterable[str]) -> dict[str, str | None]:
    """Names with our prefix that are no settings, each with the setting that was probably meant."""
    settings = [f"{PREFIX}{name.upper()}" for name in known]
    odd = sorted({name for name in names if name.upper().startswith(PREFIX)} - {name for name in names if name.upper() in settings})
    return {name: next(iter(difflib.get_close_matches(name.upper(), settings, n=1)), None) for name in odd}


def names_in_use(path: Path) -> set[str]:
    """All names in the environment and in ``.env``."""
    return {*os.environ, *read_env_file(path)}
