"""Raw UVH5 subband files to Measurement Sets: phased to one ICRS centre, ascending in frequency, flagged.

`convert_group` makes one, `verify_ms` re-opens it before it is published. Reading headers belongs to `rawfile`, finding
bad data to `flagging`, calibrating to `calibration`.
"""

from dsa110_assets.conversion.convert import ConversionReport, convert_group
from dsa110_assets.conversion.verification import inputs_of, verify_ms

__all__ = ["ConversionReport", "convert_group", "inputs_of", "verify_ms"]
