"""CLEAN searches for components in the right places, in images made by convolution with a known PSF."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.imaging import ImagingOptions
from dsa110_assets.imaging.clean import Cleaner

SIZE, CELL = 1024, 5.0
BEAM = RestoringBeam.from_arcsec(20.0, 20.0, 0.0)


@pytest.mark.parametrize(("local_rms", "cataloged"), [(False, False), (True, False), (True, True)])
def test_artifacts_are_not_cleaned_if_the_local_noise_decides(local_rms: bool, cataloged: bool):
    """A quarter of the image has five times the noise of the rest; its noise peaks are not sources."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    psf = np.exp(-4 * np.log(2) * (y**2 + x**2) / (20 / CELL) ** 2).astype(np.float32)
    transform = fft.rfft2(fft.ifftshift(psf))

    def convolved(image: np.ndarray) -> np.ndarray:
        return fft.irfft2(fft.rfft2(image) * transform, s=image.shape)

    noise = convolved(np.random.default_rng(3).standard_normal((SIZE, SIZE)))
    noise /= noise.std()
    noise[: SIZE // 2, : SIZE // 2] *= 5
    sky = np.zeros((SIZE, SIZE))
    sky[700, 300], sky[200, 800], sky[250, 240] = 9.0, 12.0, 60.0
    dirty = (convolved(sky) + noise).astype(np.float32)
    options = ImagingOptions(image_size=SIZE, cell_arcsec=CELL, local_rms=local_rms, threads=1, max_major=4)
    mask = np.zeros((SIZE, SIZE), dtype=bool)
    mask[640:760, 240:360] = True
    cleaner = Cleaner(psf, BEAM, options, mask if cataloged else None)
    model = cleaner.clean(dirty, lambda model: (dirty - convolved(model)).astype(np.float32)).model
    sources = (np.abs(y) < 90) | (np.abs(x) < 90)  # the noise map is smooth where the noise jumps
    for row, column in ((700, 300), (200, 800), (250, 240)):
        around = slice(row - 8, row + 9), slice(column - 8, column + 9)
        sources[around] = True
        assert model[around].sum() == pytest.approx(sky[row, column], abs=4 if sky[row, column] < 50 else 20)
    false = int((model[~sources] != 0).sum())
    assert false == 0 if local_rms else false > 50
