"""Fixtures that several packages share: simulated observations, made once in a session."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.simulation.array import ArrayLayout, demo_array, tiny_array
from dsa110_assets.simulation.band import BandPlan, demo_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import Sky, point_sources
from dsa110_assets.simulation.tile import integration_times_mjd, simulate_tile

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs like this. Dagster would then ignore SIGTERM too, and every child with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "e2e/test_night_through_dagster.py", "stages/test_content_of_products.py", "e2e/test_front_door.py", "cli/test_up.py",
    "imaging/test_outside_frame.py", "variability/test_recent.py", "orchestration/test_growth_of_nights.py", "imaging/test_artifacts.py",
    "pitfalls/test_pitfall_39_the_calibrators_sky.py", "orchestration/test_first_commands.py", "orchestration/test_growth.py",
)  # fmt: skip
"""Files of half a minute and more. They run first: at the end, the other processes would wait for them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    assert [str(place) for place in places if not place.is_file()] == [], "a file in LONGEST has another name now"
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


@dataclass(frozen=True)
class RawTile:
    """A simulated observation and its parameters. ``files``: in order of subband; tests do not change them."""

    directory: Path
    files: list[Path]
    start_mjd: float
    declination_deg: float
    n_integrations: int
    sky: Sky
    array: ArrayLayout
    band: BandPlan
    receivers: Receivers
    sefd_jy: float


def make_raw_tile(
    directory: Path,
    *,
    array: ArrayLayout,
    band: BandPlan,
    n_integrations: int,
    start_mjd: float = 61_100.2,
    declination_deg: float = 54.6,
    sky: Sky | None = None,
    receivers: Receivers | None = None,
    **options: object,
) -> RawTile:
    """Simulate an observation. Default sky: 8 Jy at the center of the beam at mid-tile, and 3 Jy off center."""
    if sky is None:
        middle = float(np.mean(integration_times_mjd(start_mjd, n_integrations)))
        lst_deg = local_sidereal_time_deg(middle)  # of date; within half a degree of the ICRS meridian point
        sky = point_sources([lst_deg % 360, (lst_deg + 0.6) % 360], [declination_deg, declination_deg + 0.5], [8.0, 3.0])
    receivers = receivers or Receivers(seed=11)
    files = simulate_tile(
        directory,
        start_mjd=start_mjd,
        declination_deg=declination_deg,
        sky=sky,
        array=array,
        band=band,
        seed=5,
        n_integrations=n_integrations,
        receivers=receivers,
        **options,  # type: ignore[arg-type]
    )
    return RawTile(directory, files, start_mjd, declination_deg, n_integrations, sky, array, band, receivers, 6500.0)


@pytest.fixture(scope="session")
def tiny_raw_tile(tmp_path_factory: pytest.TempPathFactory) -> RawTile:
    """8 antennas, 16 subbands of 4 channels, 6 integrations, two sources, gains and noise. About 3 MB."""
    return make_raw_tile(tmp_path_factory.mktemp("tiny_raw"), array=tiny_array(), band=BandPlan(4), n_integrations=6)


@pytest.fixture(scope="session")
def demo_raw_tile(tmp_path_factory: pytest.TempPathFactory) -> RawTile:
    """24 antennas, 16 subbands of 8 channels, 24 integrations, two sources, gains and noise. About 30 MB."""
    return make_raw_tile(tmp_path_factory.mktemp("demo_raw"), array=demo_array(), band=demo_band(), n_integrations=24)


from dsa110_assets_tests.registry_fixture import *  # noqa: E402, F403
