"""Times as users type them."""

from __future__ import annotations

from datetime import date


def night_of(text: str | None) -> date | None:
    """UTC date of a night; None stays None, which means the newest.

    Raises:
        ConfigurationError: the text is not a date.
    """
    from dsa110_assets.errors import ConfigurationError

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("--night", f"{text!r} is not a date", "give a UTC date such as 2026-03-01") from None


def mjd_of(text: str) -> float:
    """UTC MJD of an ISO date or time. A time without a zone is UTC.

    Raises:
        ConfigurationError: the text is not a time.
    """
    from datetime import UTC, datetime

    from dsa110_assets.errors import ConfigurationError
    from dsa110_assets.times import datetime_to_mjd

    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(text, "not a time", "give UTC as YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS") from None
    return datetime_to_mjd(when.replace(tzinfo=UTC) if when.tzinfo is None else when)
