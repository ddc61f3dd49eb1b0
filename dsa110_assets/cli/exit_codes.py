"""Exit codes of the `dsa110` command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dsa110_assets.errors import PipelineError, RetriableError

EXIT_FAILED: Final = 2
EXIT_RETRY: Final = 75
"""EX_TEMPFAIL of sysexits.h: the same command may succeed later."""


def exit_code_of(errors: Iterable[PipelineError]) -> int:
    """Exit code of a command that ended with these errors: `EXIT_RETRY` if all are retriable, else `EXIT_FAILED`."""
    return EXIT_RETRY if all(isinstance(error, RetriableError) for error in errors) else EXIT_FAILED
