"""The inputs of a mosaic: the images of one tile on disk, and the check that tiles belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from astropy.wcs import WCS

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.fits_planes import celestial_wcs, frequency_hz, mapped_plane, number, read_header, read_plane
from dsa110_assets.common.restoring_beam import BEAM_KEYWORDS, RestoringBeam
from dsa110_assets.errors import MosaicError, ProductVerificationError, RestoringBeamError
from dsa110_assets.products import image_path
from dsa110_assets.strips import is_one_strip

TILE_SUFFIXES = ("image", "pb", "weight")
"""What a mosaic reads of each tile: restored image in apparent flux, drift-averaged power beam, inverse variance."""

MOST_UNREADABLE = 1 / 3
"""Part of a mosaic's tiles that may be missing or damaged; with more, there is something to repair first."""


@dataclass(frozen=True)
class TileImage:
    """One tile's images, described by their headers; opening one reads no pixels.

    ``group_id``: the observation. ``directory``, ``name``: the files are ``products.image_path(directory, name,
    suffix)`` for `TILE_SUFFIXES`. ``start_mjd``, ``mid_mjd``, ``end_mjd``: UTC. ``ra_deg``, ``dec_deg``: ICRS center of
    the image, the meridian point at mid-tile. ``shape``: (rows, columns). ``cell_arcsec``: pixel size. ``beam``:
    restoring beam. ``noise_jy_per_beam``: measured noise before primary beam correction. ``frequency_hz``: frequency at
    which its fluxes are quoted. ``flux_error``: of its fluxes, from errors of gains; None if it was not measured.
    """

    group_id: str
    directory: Path
    name: str
    start_mjd: float
    mid_mjd: float
    end_mjd: float
    ra_deg: float
    dec_deg: float
    shape: tuple[int, int]
    cell_arcsec: float
    beam: RestoringBeam
    noise_jy_per_beam: float
    frequency_hz: float
    flux_error: CalibrationError | None = None

    @classmethod
    def of(cls, directory: Path, name: str) -> Self:
        """Describe the tile ``<directory>/<name>-*.fits`` from the header of its restored image.

        Raises:
            MosaicError: a file is missing or is not FITS, or its header lacks beam, noise or times.
        """
        for suffix in TILE_SUFFIXES:
            if not image_path(directory, name, suffix).is_file():
                raise MosaicError(image_path(directory, name, suffix), "the file does not exist", "make the tile's image again")
        path = image_path(directory, name, "image")
        try:
            header = read_header(path)
        except ProductVerificationError as error:
            raise MosaicError(path, f"not a FITS file: it {error.cause}", "make the tile's image again") from error
        missing = [
            key
            for key in (*BEAM_KEYWORDS, "DSANOISE", "MJD-BEG", "MJD-END", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2")
            if not np.isfinite(number(header, key))
        ]
        if missing:
            raise MosaicError(path, f"its header has no {', '.join(missing)}", "make the tile's image again")
        if str(header.get("RADESYS", "ICRS")).strip() != "ICRS":
            raise MosaicError(path, f"coordinates are {header['RADESYS']}, not ICRS", "make the tile's image again")
        noise = number(header, "DSANOISE")
        if not (np.isfinite(noise) and noise > 0):
            raise MosaicError(path, f"impossible noise {noise} Jy/beam", "make the tile's image again")
        try:
            beam = RestoringBeam.from_header(header)
        except RestoringBeamError as error:
            raise MosaicError(path, f"impossible {error.subject}", "make the tile's image again") from error
        try:
            wcs = celestial_wcs(header)
        except ProductVerificationError as error:
            raise MosaicError(path, error.cause, "make the tile's image again") from error
        shape = (int(number(header, "NAXIS2")), int(number(header, "NAXIS1")))
        ra, dec = wcs.wcs_pix2world((shape[1] - 1) / 2, (shape[0] - 1) / 2, 0)
        start, end = number(header, "MJD-BEG"), number(header, "MJD-END")
        return cls(
            group_id=str(header.get("DSAGROUP", name)).strip(),
            directory=directory,
            name=name,
            start_mjd=start,
            mid_mjd=(start + end) / 2,
            end_mjd=end,
            ra_deg=float(np.mod(ra, 360.0)),
            dec_deg=float(dec),
            shape=shape,
            cell_arcsec=abs(number(header, "CDELT2")) * 3600.0,
            beam=beam,
            noise_jy_per_beam=noise,
            frequency_hz=number(header, "DSAREFHZ") if "DSAREFHZ" in header else frequency_hz(header),
            flux_error=CalibrationError.from_header(header),
        )

    def path(self, suffix: str) -> Path:
        """File of one of the tile's images."""
        return image_path(self.directory, self.name, suffix)

    def wcs(self) -> WCS:
        """Celestial coordinates of the images' last two axes."""
        return celestial_wcs(read_header(self.path("image")))

    def plane(self, suffix: str) -> np.ndarray:
        """Pixels of one image, shape (rows, columns), native float32 (pitfall 9).

        Raises:
            MosaicError: the image does not have the shape of the restored image.
            ProductVerificationError: the file cannot be read, or is not one plane.
        """
        pixels, _ = read_plane(self.path(suffix), memmap=True)
        if pixels.shape != self.shape:
            raise MosaicError(self.path(suffix), f"shape {pixels.shape}, expected {self.shape}", "make the tile's image again")
        return pixels


def readable_tiles(places: Sequence[tuple[Path, str]]) -> tuple[list[TileImage], dict[str, str]]:
    """Open tiles, given as (directory, name); a missing or damaged one does not stop the others.

    Returns:
        The readable tiles in the given order, and for each other name the reason.

    Raises:
        MosaicError: more than `MOST_UNREADABLE` of the tiles cannot be read.
    """
    tiles: list[TileImage] = []
    unreadable: dict[str, str] = {}
    for directory, name in places:
        try:
            tile = TileImage.of(directory, name)
            for suffix in TILE_SUFFIXES:
                with mapped_plane(tile.path(suffix)) as (pixels, _):
                    if pixels.shape != tile.shape:
                        raise MosaicError(tile.path(suffix), f"shape {pixels.shape}, expected {tile.shape}", "make the tile's image again")
        except (MosaicError, ProductVerificationError) as error:
            unreadable[name] = f"{Path(error.subject).name}: {error.cause}"
        else:
            tiles.append(tile)
    if len(unreadable) > MOST_UNREADABLE * len(places):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unreadable.items())
        raise MosaicError(
            "mosaic", f"{len(unreadable)} of {len(places)} tiles cannot be read ({reasons})", "make these tiles' images again"
        )
    return tiles, unreadable


def check_one_strip(tiles: Sequence[TileImage], declination_tolerance_deg: float) -> None:
    """Refuse an empty selection, an observation given twice, and tiles of different declination strips (pitfall 15).

    Raises:
        MosaicError: names the tiles at fault.
    """
    if not tiles:
        raise MosaicError("mosaic", "there are no tiles", "select an interval in which tiles were imaged")
    group_ids = [tile.group_id for tile in tiles]
    repeated = sorted({group_id for group_id in group_ids if group_ids.count(group_id) > 1})
    if repeated:
        raise MosaicError("mosaic", f"tiles given twice: {', '.join(repeated)}", "give each observation once")
    lowest, highest = min(tiles, key=lambda t: t.dec_deg), max(tiles, key=lambda t: t.dec_deg)
    if not is_one_strip([tile.dec_deg for tile in tiles], declination_tolerance_deg):
        raise MosaicError(
            "mosaic",
            f"tiles of different declination strips: {lowest.group_id} at {lowest.dec_deg:+.3f} deg, "
            f"{highest.group_id} at {highest.dec_deg:+.3f} deg, each within {declination_tolerance_deg} deg of its strip",
            "make one mosaic for each strip",
        )
