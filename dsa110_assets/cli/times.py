"""Times as users type them."""

from __future__ import annotations


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
