"""Measurement Sets of simulated observations that the tests of this package share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.conversion import ConversionReport, convert_observation
from dsa110_assets.simulation.array import tiny_array
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import integration_times_mjd
from dsa110_assets_tests.conftest import RawTile, make_raw_tile


@dataclass(frozen=True)
class Converted:
    raw: RawTile
    ms: Path
    report: ConversionReport


@pytest.fixture(scope="session")
def one_source(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """One noise-free 10 Jy source of spectral index -2, 0.4 deg off the center, perfect receivers; Jy."""
    directory = tmp_path_factory.mktemp("one_source")
    start_mjd = 61_100.2
    lst_deg = local_sidereal_time_deg(float(np.mean(integration_times_mjd(start_mjd, 24))))
    sky = point_sources([(lst_deg + 0.2) % 360], [54.9], [10.0], spectral_index=-2.0)
    raw = make_raw_tile(
        directory / "raw",
        array=tiny_array(),
        band=BandPlan(4),
        n_integrations=24,
        start_mjd=start_mjd,
        sky=sky,
        receivers=Receivers.perfect(),
        noise=False,
    )
    report = convert_observation(dict(enumerate(raw.files)), directory / "one.ms", flag_rfi=False)
    return Converted(raw, directory / "one.ms", report)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_raw_tile: RawTile) -> Converted:
    """The shared tiny observation, converted and flagged."""
    ms = tmp_path_factory.mktemp("tiny_ms") / "tiny.ms"
    return Converted(tiny_raw_tile, ms, convert_observation(dict(enumerate(tiny_raw_tile.files)), ms))
