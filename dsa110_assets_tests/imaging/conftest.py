"""One tile, imaged once for all tests of its products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets_tests.imaging.synthetic_ms import Tile, offset_position, write_tile

RINGS_DEG = (0.15, 0.7, 1.1, 1.4, 1.75)
OPTIONS = ImagingOptions(image_size=1536, cell_arcsec=9.0)


@dataclass(frozen=True)
class Imaged:
    tile: Tile
    report: ImageReport
    sky: pd.DataFrame
    ring: np.ndarray


@pytest.fixture(scope="session")
def imaged(tmp_path_factory: pytest.TempPathFactory) -> Imaged:
    """Image rings of sources out to the 20 % beam, smeared and drifting; a quarter of them is not in the catalog."""
    directory = tmp_path_factory.mktemp("tile")
    rng = np.random.default_rng(8)
    rows, ring = [], []
    for number, radius in enumerate(RINGS_DEG):
        for angle in np.arange(6) * np.pi / 3 + 0.3 + 0.4 * number:
            jitter = rng.uniform(-0.02, 0.02, 2)
            position = offset_position(150.0, 54.6, radius * np.sin(angle) + jitter[0], radius * np.cos(angle) + jitter[1])
            rows.append((*position, 0.5 if len(rows) != 7 else 2.5, -0.7))
            ring.append(number)
    tile = write_tile(directory / "t.ms", rows, n_antenna=24, n_time=24, n_channel=64, smear=True)
    sky = pd.DataFrame(rows, columns=["ra_deg", "dec_deg", "flux_jy", "spectral_index"])
    cataloged = sky.iloc[np.arange(len(sky)) % 4 != 3]
    provenance = {"DSAGROUP": "2025-05-05T06:00:00", "DSACODE": "abc", "DSACONF": "123456789abc", "inputs": "calibrated_ms 5"}
    report = image_tile(tile.ms, directory, "2025-05-05T06:00:00", OPTIONS, mask_sky=cataloged, provenance=provenance)
    return Imaged(tile, report, sky, np.array(ring))


@pytest.fixture(scope="session")
def small_tile(tmp_path_factory: pytest.TempPathFactory) -> Tile:
    """Write a tile of four sources, 16 antennas and few samples, small enough for direct sums."""
    sources = [
        (*offset_position(150.0, 54.6, e, n), f, -0.7)
        for e, n, f in ((0.01, 0.02, 0.5), (0.3, 0.4, 1.0), (-0.6, 0.2, 0.7), (0.2, -0.7, 0.4))
    ]
    return write_tile(tmp_path_factory.mktemp("small") / "s.ms", sources, n_antenna=16, n_time=4, n_channel=8)
