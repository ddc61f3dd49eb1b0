"""The classes of `retention`: which parts of a product are kept for how long, as named in the table of products.

It imports only the standard library, because the table of products does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A part of a product that is removed as a whole.

    ``rule``: name of the part in `dsa110 clean` and in the registry. ``setting``: for how many days it is kept; 0 means
    forever. ``suffixes``: of the image files that belong to it (`products.parse_image_name`); empty for the whole
    product. ``channel_suffixes``: the same for the channel images. ``lost``: what is no longer possible without it.
    """

    rule: str
    setting: str
    lost: str
    suffixes: tuple[str, ...] = ()
    channel_suffixes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole product."""
        return not self.suffixes


MEASUREMENT_SETS = Part("measurement_sets", "keep_measurement_sets_days", "calibrating again, without the raw files")
CALIBRATED_SETS = Part("calibrated_sets", "keep_calibrated_sets_days", "imaging again, without calibrating again")
WORKING_PLANES = Part("working_planes", "keep_working_planes_days", "looking at the steps of CLEAN", ("dirty", "psf", "model", "residual"))
MOSAIC_PLANES = Part(
    "mosaic_planes", "keep_mosaic_planes_days", "mosaics, without imaging again", ("image", "pb", "weight"), ("image", "pb", "weight")
)
TILE_MAPS = Part("tile_maps", "keep_tile_maps_days", "fluxes of a tile", ("image-pb", "noise", "alpha", "alpha-error"), ("image-pb",))
MOSAIC_MAPS = Part(
    "mosaic_maps",
    "keep_mosaic_maps_days",
    "measuring the mosaic again",
    ("noise", "weight", "coverage"),
    ("image", "noise", "weight", "coverage"),
)
HOURLY_IMAGES = Part(
    "hourly_images", "keep_hourly_images_days", "looking at the whole mosaic; cut-outs of its measured sources stay", ("image",)
)
NIGHTLY_IMAGES = Part("nightly_images", "keep_nightly_images_days", "looking at the night's mosaic", ("image",))
CUSTOM_MOSAICS = Part("custom_mosaics", "keep_custom_mosaics_days", "looking at a mosaic that a person made")
NIGHT_REPORTS = Part("night_reports", "keep_night_reports_days", "pictures and tables of a night's candidates and metrics")
