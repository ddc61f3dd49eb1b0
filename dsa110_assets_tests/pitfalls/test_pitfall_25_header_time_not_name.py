"""Pitfall 25 (header): the 16 files of one observation have the same ``time_array``, but names with different times."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsa110_assets.products import parse_raw_name
from dsa110_assets.rawfile import read_raw_header
from dsa110_assets.simulation.array import tiny_array
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.tile import NameJitter
from dsa110_assets.times import group_id_of
from dsa110_assets_tests.conftest import make_raw_tile


def test_pitfall_25_names_scatter_but_the_headers_have_one_start(tmp_path: Path) -> None:
    raw = make_raw_tile(tmp_path, array=tiny_array(), band=BandPlan(1), n_integrations=2, jitter=NameJitter(restart=True))
    stamps = [parse_raw_name(path.name).stamp for path in raw.files]
    assert np.ptp([s.timestamp() for s in stamps]) > 10
    headers = [read_raw_header(path) for path in raw.files]
    assert [h.subband for h in headers] == list(range(16))
    assert {h.start_jd.hex() for h in headers} == {headers[0].start_jd.hex()}
    assert len({group_id_of(h.start_jd) for h in headers}) == 1
