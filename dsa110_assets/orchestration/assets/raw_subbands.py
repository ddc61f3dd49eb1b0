"""The sixteen raw subband files of an observation, as the correlator left them.

Not computed: the ingest sensor reports it when an observation is complete, or when its deadline has passed and enough
subbands are there. Raw files are only ever read.
"""

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions

KEY = "raw_subbands"


def build(partitions: Partitions) -> dg.AssetSpec:
    """The asset."""
    return dg.AssetSpec(
        KEY,
        description=__doc__,
        group_name="tile",
        kinds={"hdf5"},
        owners=["team:dsa110"],
        partitions_def=partitions.tile,
        metadata={"expected every (s)": 309.24},
    )
