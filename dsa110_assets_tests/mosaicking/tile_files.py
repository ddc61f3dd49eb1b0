"""Tile images with known truth, written as FITS files: correlated noise, and sources seen through a drifting beam.

The beam (the Airy formula) and the restored source are written out here, independently of the package.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import fft
from scipy.special import j1

from dsa110_assets.mosaicking.tiles import TileImage
from dsa110_assets.products import channel_name

DRIFT_DEG = 1.292
FREQUENCY_HZ = 1.405e9
FIRST_MJD = 61100.25


@dataclass(frozen=True)
class TileTruth:
    ra_deg: float
    dec_deg: float = 54.6
    noise_jy: float = 0.005
    size: int = 384
    cell_arcsec: float = 30.0
    beam_arcsec: tuple[float, float, float] = (150.0, 120.0, 25.0)
    start_mjd: float = FIRST_MJD


def tile_wcs(truth):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [truth.ra_deg, truth.dec_deg]
    wcs.wcs.cdelt = [-truth.cell_arcsec / 3600, truth.cell_arcsec / 3600]
    wcs.wcs.crpix = [truth.size / 2 + 1] * 2
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def drifting_beam(truth, ra_deg, dec_deg, frequency_hz=FREQUENCY_HZ):
    """Mean of 24 Airy beams along the drift."""
    total = 0.0
    for offset in (np.arange(24) - 11.5) / 24 * DRIFT_DEG:
        ra0, dec0 = np.radians(truth.ra_deg + offset), np.radians(truth.dec_deg)
        ra, dec = np.radians(ra_deg), np.radians(dec_deg)
        cosine = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0)
        x = np.pi * 4.65 * frequency_hz / 299792458.0 * np.sqrt(1 - np.clip(cosine, -1, 1) ** 2)
        x = np.where(x < 1e-7, 1e-7, x)
        total = total + (2 * j1(x) / x) ** 2
    return total / 24


def gaussian(east_px, north_px, beam_px, pa_deg):
    """Unit-peak elliptical Gaussian, position angle from north through east."""
    pa = np.radians(pa_deg)
    along = north_px * np.cos(pa) + east_px * np.sin(pa)
    across = -north_px * np.sin(pa) + east_px * np.cos(pa)
    return np.exp(-4 * np.log(2) * ((along / beam_px[0]) ** 2 + (across / beam_px[1]) ** 2))


def beam_noise(rng, size, beam_px, pa_deg):
    """Noise of unit variance that is correlated like the beam."""
    x = fft.fftfreq(size) * size
    kernel = gaussian(-x[None, :], x[:, None], np.array(beam_px), pa_deg)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal((size, size))) * fft.rfft2(kernel), s=(size, size))
    return noise / np.sqrt(np.sum(kernel**2))


def write_tile(
    directory: Path,
    truth: TileTruth,
    sources,
    seed: int,
    *,
    image=None,
    wide_noise: float = 1.0,
    channel: int | None = None,
    frequency_hz: float = FREQUENCY_HZ,
) -> TileImage:
    """Write one tile, or one channel of it; ``sources`` are (ra_deg, dec_deg, flux_jy)."""
    wcs = tile_wcs(truth)
    y, x = np.mgrid[: truth.size, : truth.size].astype(float)
    ra, dec = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    pb = drifting_beam(truth, ra, dec, frequency_hz).reshape(y.shape)
    beam_px = np.array(truth.beam_arcsec[:2]) / truth.cell_arcsec
    if image is None:
        rng = np.random.default_rng(seed)
        image = truth.noise_jy * wide_noise * beam_noise(rng, truth.size, beam_px, truth.beam_arcsec[2])
        for source_ra, source_dec, flux in sources:
            sx, sy = wcs.wcs_world2pix(source_ra, source_dec, 0)
            if not (-50 < sx < truth.size + 50 and -50 < sy < truth.size + 50):
                continue
            if np.cos(np.radians(source_ra - truth.ra_deg)) < 0.9:
                continue
            apparent = flux * float(drifting_beam(truth, source_ra, source_dec, frequency_hz))
            image = image + apparent * gaussian(-(x - sx), y - sy, beam_px, truth.beam_arcsec[2])
    group = fits_time(truth.start_mjd)[:19]
    header = wcs.to_header()
    header["CTYPE3"], header["CRVAL3"], header["CDELT3"], header["CRPIX3"], header["CUNIT3"] = "FREQ", frequency_hz, 187.5e6, 1.0, "Hz"
    header["CTYPE4"], header["CRVAL4"], header["CDELT4"], header["CRPIX4"] = "STOKES", 1.0, 1.0, 1.0
    header["BMAJ"], header["BMIN"], header["BPA"] = truth.beam_arcsec[0] / 3600, truth.beam_arcsec[1] / 3600, truth.beam_arcsec[2]
    header["BUNIT"], header["TIMESYS"], header["DATE-OBS"] = "JY/BEAM", "UTC", fits_time(truth.start_mjd)
    header["MJD-BEG"], header["MJD-END"] = truth.start_mjd, truth.start_mjd + 309.2376 / 86400
    header["DSANOISE"], header["DSATHERM"], header["DSAGROUP"] = truth.noise_jy, truth.noise_jy, group
    directory.mkdir(parents=True, exist_ok=True)
    name = group if channel is None else channel_name(group, channel)
    inside = pb >= 0.05
    for suffix, pixels in (("image", image), ("pb", pb), ("weight", np.where(inside, pb**2 / truth.noise_jy**2, 0.0))):
        fits.PrimaryHDU(pixels[None, None].astype(np.float32), header).writeto(directory / f"{name}-{suffix}.fits", overwrite=True)
    return TileImage.of(directory, name)


def fits_time(mjd):
    from astropy.time import Time

    return Time(mjd, format="mjd", scale="utc").isot


def strip(directory, n_tiles, sources, *, ra_deg=180.0, seed=1, noises=None, **fields):
    """Tiles of a drift scan that starts at ``ra_deg``, one drift apart."""
    return [
        write_tile(
            directory,
            TileTruth(
                ra_deg=(ra_deg + i * DRIFT_DEG) % 360.0,
                start_mjd=FIRST_MJD + i * 309.2376 / 86400,
                noise_jy=0.005 if noises is None else noises[i],
                **fields,
            ),
            sources,
            seed + i,
        )
        for i in range(n_tiles)
    ]
