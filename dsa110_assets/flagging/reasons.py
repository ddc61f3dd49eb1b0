"""Why a visibility is flagged: one small number per visibility, kept until the Measurement Set is written.

The first reason that applies stays, so that the report can show what each step added.
"""

from __future__ import annotations

from enum import IntEnum


class FlagReason(IntEnum):
    """Value in a ``reasons`` array (uint8); 0 is good data."""

    GOOD = 0
    MISSING_SUBBAND = 1
    MISSING_INTEGRATION = 2
    RAW_FLAG = 3
    ZERO = 4
    ABSURD_VALUE = 5
    NO_SAMPLES = 6
    DEAD_RECEPTOR = 7
    RFI = 8
    OUTLIER = 9
    PICKUP = 10
    NO_BASELINE = 11
    BAD_ANTENNA = 12
