"""Mosaics on demand: of a time range, or around a calibrator's transit.

A plan lists the tiles of a mosaic. It is saved as a small file, so that a person can check it first.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dsa110_assets import publication
from dsa110_assets.catalogs import calibrators
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS
from dsa110_assets.errors import MosaicError, NoCalibratorError
from dsa110_assets.files import refuse_overwriting, refuse_replacing
from dsa110_assets.products import image_path
from dsa110_assets.registry.queries.images import newest_tile_on_meridian, tiles_in_window
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.combining import MosaicRequest, combine
from dsa110_assets.stages.products.gates import refused_tiles
from dsa110_assets.stages.products.references import calibrators_path
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.table import CUSTOM_MOSAIC
from dsa110_assets.strips import in_strip, main_strip
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,79}")
_RESERVED = ("hourly_", "nightly_")
_HALF_TILE_DEG = 0.66
"""Half the range of right ascension that crosses the meridian during a tile, and a margin."""
_MAX_DECLINATION_DISTANCE_DEG = 2.0
"""A calibrator farther from the strip is outside the 20 % beam."""


@dataclass(frozen=True)
class MosaicPlan:
    """The tiles of a mosaic.

    ``since``, ``until``: ISO 8601, UTC; the middle of each tile lies in ``[since, until)``. ``declination_deg``: the
    strip. ``tiles``: observations, in order of time. ``left_out``: other observations of the interval, and why.
    """

    name: str
    since: str
    until: str
    declination_deg: float
    tiles: tuple[str, ...]
    left_out: dict[str, str]


def is_name(name: str) -> bool:
    """Whether a text can name a mosaic on demand."""
    return _NAME.fullmatch(name) is not None and not name.startswith(_RESERVED)


def plan_mosaic(
    platform: Platform, name: str, since: datetime, until: datetime, *, declination_deg: float | None = None, keep: bool = True
) -> MosaicPlan:
    """Choose the tiles of a time range and (``keep``) save the plan under its name.

    Args:
        platform: the platform.
        name: name of the mosaic: letters, digits and ``_ . + -``, and not a name of hourly or nightly mosaics.
        since, until: aware datetimes, half-open.
        declination_deg: the strip; None takes the one with most tiles.
        keep: save the plan for `load_plan`.

    Raises:
        MosaicError: invalid name or interval, or no good tile in it.
    """
    if not is_name(name):
        raise MosaicError(
            f"mosaic {name!r}",
            "is not a valid name of a mosaic on demand",
            "use letters, digits and _.+-; hourly_... and nightly_... are reserved",
        )
    if until <= since:
        raise MosaicError(f"mosaic {name}", f"the interval ends ({until:%FT%T}) before it begins ({since:%FT%T})", "swap them")
    tolerance = platform.config.mosaic_declination_tolerance_deg
    with platform.database.session() as session:
        tiles = tiles_in_window(session, datetime_to_mjd(since), datetime_to_mjd(until))
        left_out = refused_tiles(session, [tile.group_id for tile in tiles])
    if not tiles:
        raise MosaicError(
            f"mosaic {name}",
            f"no imaged tile between {since:%FT%T} and {until:%FT%T} UTC",
            'look at `dsa110 db query "SELECT group_id FROM images"`',
        )
    good = [tile for tile in tiles if tile.group_id not in left_out]
    if not good:
        reasons = "; ".join(f"{group_id}: {reason}" for group_id, reason in left_out.items())
        raise MosaicError(
            f"mosaic {name}", f"no tile of the interval is good ({reasons})", "look at their images; judge or make them again"
        )
    declinations = [tile.pointing_dec_deg for tile in good]
    strip = declination_deg
    if strip is None:
        strip = main_strip(declinations, tolerance)
    chosen = tuple(tile.group_id for tile in good if in_strip(tile.pointing_dec_deg, strip, tolerance))
    if not chosen:
        raise MosaicError(
            f"mosaic {name}",
            f"no tile within {tolerance} deg of declination {strip:.2f} (there are {sorted({round(d, 1) for d in declinations})})",
            "choose another strip",
        )
    plan = MosaicPlan(
        name,
        since.astimezone(UTC).isoformat(),
        until.astimezone(UTC).isoformat(),
        float(strip),
        chosen,
        left_out | {tile.group_id: "another declination strip" for tile in good if tile.group_id not in chosen},
    )
    if keep:
        path = platform.paths.mosaic_plan(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with publication.publish(path) as staged:
            staged.write_text(json.dumps(asdict(plan), indent=1) + "\n")
    return plan


def load_plan(platform: Platform, name: str) -> MosaicPlan:
    """Read a saved plan.

    Raises:
        MosaicError: there is no plan of this name.
    """
    path = platform.paths.mosaic_plan(name)
    if not is_name(name) or not path.is_file():
        raise MosaicError(
            f"mosaic {name}", "there is no plan of this name", f"make one: `dsa110 mosaic plan --name {name} --since START --until END`"
        )
    content: dict[str, Any] = json.loads(path.read_text())
    return MosaicPlan(**{**content, "tiles": tuple(content["tiles"])})  # pyright: ignore[reportArgumentType]


def build_mosaic(platform: Platform, plan: MosaicPlan, run_id: str, *, destination: Path | None = None) -> StageResult:
    """Make and register a planned mosaic from the current images of its tiles.

    Raises:
        MosaicError: a tile of the plan no longer has an image, or the tiles cannot be combined.
        ConfigurationError: ``destination`` holds anything but this mosaic.
        OutputIsInputError: ``destination`` is or contains a tile.
    """
    since, until = (datetime_to_mjd(datetime.fromisoformat(when)) for when in (plan.since, plan.until))
    with platform.database.session() as session:
        imaged = {tile.group_id: tile for tile in tiles_in_window(session, since, until)}
    missing = [group_id for group_id in plan.tiles if group_id not in imaged]
    if missing:
        raise MosaicError(
            f"mosaic {plan.name}", f"tiles without an image: {', '.join(missing)}", "make their `tile_image`, or plan the mosaic again"
        )
    tiles = [imaged[group_id] for group_id in plan.tiles]
    if destination is not None:
        refuse_overwriting(destination, [Path(tile.directory) for tile in tiles], replaces_directory=True)
        refuse_replacing(destination, f"the mosaic {plan.name}", lambda path: image_path(path, plan.name, "image").is_file())
    request = MosaicRequest(CUSTOM_MOSAIC, plan.name, plan.name, tiles, plan.declination_deg, destination)
    return combine(platform, request, run_id)


def plan_around_calibrator(
    platform: Platform, calibrator: str, timespan_minutes: float, *, night: str | None = None, name: str | None = None, keep: bool = True
) -> MosaicPlan:
    """Plan a mosaic centered on a calibrator's transit: the newest one with an image, or the one of a night.

    ``keep``: save the plan for `load_plan`.

    The transit is computed from the tile that observed the calibrator nearest to the meridian. The center of a tile is
    the meridian point at its middle.

    Raises:
        NoCalibratorError: the calibrator is not in the catalog, or no imaged tile observed its transit.
    """
    star = calibrators.find(calibrators.load(calibrators_path(platform)), calibrator)
    low = datetime_to_mjd(datetime.fromisoformat(f"{night}T00:00:00+00:00")) if night else -1e9
    with platform.database.session() as session:
        tile = newest_tile_on_meridian(
            session,
            star.ra_deg,
            star.dec_deg,
            half_width_deg=_HALF_TILE_DEG,
            dec_distance_deg=_MAX_DECLINATION_DISTANCE_DEG,
            start_mjd=low,
            end_mjd=low + 1.0 if night else 1e9,
        )
    if tile is None:
        raise NoCalibratorError(
            star.name,
            f"no imaged tile observed it near the meridian{f' on {night}' if night else ''}",
            "choose another calibrator or night; `dsa110 ingest status` lists the calibrators of observations",
        )
    east_deg = (star.ra_deg - tile.ra_deg + 180.0) % 360.0 - 180.0
    transit = mjd_to_datetime(tile.mid_mjd + east_deg * SIDEREAL_DAY_DAYS / 360.0)
    half = timedelta(minutes=timespan_minutes / 2)
    return plan_mosaic(
        platform,
        name or f"{star.name}_{transit:%Y-%m-%d}",
        transit - half,
        transit + half,
        declination_deg=tile.pointing_dec_deg,
        keep=keep,
    )
