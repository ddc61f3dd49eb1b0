"""Keywords of tile images for antennas whose gains are wrong. The imager writes them, and the verdicts read them."""

from __future__ import annotations

WRONG_ANTENNAS = "DSAWRONG"
"""Names of the antennas in the image whose gains are certainly wrong; absent where this could not be measured."""
LEFT_OUT = "DSALEFT"
"""Names of those that were left out of the image because of this."""
