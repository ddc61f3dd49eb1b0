"""Measurement Sets of the platform: what each says about itself, read in one way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.common.directions import TilePointing
from dsa110_assets.common.smearing import Averaging

CALIBRATED_KEYWORD = "DSA110_CALIBRATED"
"""Keyword of a calibrated Measurement Set: JSON that says, among others, how many channels were averaged."""
SCALE_KEYWORD = "DSA110_APPARENT_SCALE"
"""Keyword of a Measurement Set with geometric baselines: apparent over ICRS angle at its phase centre (`apparent_scale`)."""


def read_apparent_scale(main: Any) -> float:
    """Factor that turns an open Measurement Set's UVW into baselines for ICRS directions.

    1 where the keyword is absent: other programs' data, and calibrated data, whose UVW carry the factor already.
    """
    return float(main.getkeyword(SCALE_KEYWORD)) if SCALE_KEYWORD in main.keywordnames() else 1.0


def read_tile_pointing(ms: Path) -> TilePointing:
    """Read where a tile looked from its Measurement Set (POINTING and FIELD tables, written by `conversion`)."""
    from casacore.tables import table

    with table(f"{ms}::FIELD", ack=False) as field:
        phase = np.asarray(field.getcell("PHASE_DIR", 0), dtype=np.float64)[0]
    with table(f"{ms}::POINTING", ack=False) as pointing:
        first = pointing.query("ANTENNA_ID == 0", sortlist="TIME", columns="TIME, DIRECTION")
        time_mjd = np.asarray(first.getcol("TIME"), dtype=np.float64) / 86400.0
        direction = np.asarray(first.getcol("DIRECTION"), dtype=np.float64)[:, 0, :]
        first.close()
    degrees = np.degrees(direction)
    return TilePointing(
        time_mjd=time_mjd,
        ra_deg=np.mod(degrees[:, 0], 360.0),
        dec_deg=degrees[:, 1],
        phase_ra_deg=float(np.mod(np.degrees(phase[0]), 360.0)),
        phase_dec_deg=float(np.degrees(phase[1])),
    )


def read_averaging(ms: Path) -> Averaging:
    """What the visibilities of a Measurement Set of the platform are means over; a calibrated one says how many channels."""
    from casacore.tables import table

    with table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        width_hz = abs(float(np.atleast_1d(window.getcell("CHAN_WIDTH", 0))[0]))
    with table(str(ms), ack=False) as main:
        integration_s = float(main.getcell("INTERVAL", 0))
        record = json.loads(main.getkeyword(CALIBRATED_KEYWORD)) if CALIBRATED_KEYWORD in main.keywordnames() else {}
    channels = int(record.get("channels_averaged", 1))
    return Averaging(width_hz / channels, integration_s, channels)
