"""The whole path of one tile, from raw files to fluxes and positions in the image.

The raw files come from the simulator, which shares no code with this path.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from scipy import ndimage

from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.quality.image import compare_with_catalog, read_tile
from dsa110_assets_tests.conftest import RawTile


@pytest.fixture(scope="module")
def calibrated(demo_raw_tile: RawTile, tmp_path_factory: pytest.TempPathFactory):
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.solve import solve
    from dsa110_assets.conversion.convert import convert_observation

    directory = tmp_path_factory.mktemp("path")
    sky = demo_raw_tile.sky
    catalog = pd.DataFrame(
        {"name": sky.names, "ra_deg": sky.ra_deg, "dec_deg": sky.dec_deg, "flux_jy": sky.flux_jy, "spectral_index": sky.spectral_index}
    )
    convert_observation(dict(enumerate(demo_raw_tile.files)), directory / "raw.ms", flag_rfi=False)
    solved = solve(directory / "raw.ms", directory / "tables", sky=catalog, smearing=False)
    assert solved.bandpass is not None
    assert solved.gain is not None
    apply_calibration(directory / "raw.ms", [solved.bandpass, solved.gain], directory / "tile.cal.ms")
    return directory, catalog


def test_fluxes_positions_and_noise_survive_the_whole_path(calibrated):
    directory, catalog = calibrated
    options = ImagingOptions(image_size=1024, cell_arcsec=6.0, correct_smearing=False)  # the simulation does not smear
    report = image_tile(directory / "tile.cal.ms", directory, "tile", options, mask_sky=catalog, provenance={})
    planes = read_tile(directory, "tile")
    found = compare_with_catalog(planes, catalog, report.noise_jy_per_beam)
    assert found.flux_ratio.size == 2
    assert found.flux_ratio == pytest.approx(1.0, abs=0.01)
    offset = np.hypot(found.east_arcsec, found.north_arcsec)
    assert offset.max() < max(0.3, 0.02 * report.beam.major_arcsec)
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.15)
    assert report.bright_sources == 2
    # the sky has no other source
    restored = fits.getdata(report.images["image"])[0, 0]
    labels, n_islands = ndimage.label(restored > 7 * report.noise_jy_per_beam)
    assert n_islands == 2, labels.max()


def test_the_verdict_on_fluxes_needs_more_than_two_sources(calibrated):
    from dsa110_assets.quality.image import judge_tile

    directory, catalog = calibrated
    verdicts = {v.name: v for v in judge_tile(read_tile(directory, "tile"), catalog)}
    assert verdicts["flux_ratio_to_catalog"].passed is None
    assert verdicts["noise_over_thermal"].passed is True
