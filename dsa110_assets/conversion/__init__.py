"""Raw UVH5 subband files to Measurement Sets: phased to one ICRS center, ascending in frequency, flagged.

`convert_observation` makes one, and `verify_ms` re-opens it before it is published. `rawfile` reads headers, `flagging`
finds bad data, `calibration` calibrates.
"""

from dsa110_assets.conversion.convert import ConversionReport, convert_observation
from dsa110_assets.conversion.verification import inputs_of, verify_ms

__all__ = ["ConversionReport", "convert_observation", "inputs_of", "verify_ms"]
