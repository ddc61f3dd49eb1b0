"""Flagging of a tile in memory: impossible values, dead receptors, interference, outliers.

`flag_visibilities` marks them and returns a `FlagReport`. The package does not use files or Measurement Sets.
"""

from dsa110_assets.flagging.flag import FlagReport, flag_visibilities
from dsa110_assets.flagging.reasons import FlagReason

__all__ = ["FlagReason", "FlagReport", "flag_visibilities"]
