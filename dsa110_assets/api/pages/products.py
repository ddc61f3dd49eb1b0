"""What pages of images and mosaics share: previews, quality figures as gauges, downloads, cut-outs, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from dsa110_assets.api import files
from dsa110_assets.api.access import Access
from dsa110_assets.api.pages import names
from dsa110_assets.api.pages.layout import address, asset_url
from dsa110_assets.api.routes.provenance import show_version
from dsa110_assets.quality.gate import Check
from dsa110_assets.stages.table import (
    ADDED_PHOTOMETRY,
    CALIBRATED_MS,
    CALIBRATION_TABLES,
    CUSTOM_MOSAIC,
    HOURLY_MOSAIC,
    MEASUREMENT_SET,
    NIGHTLY_MOSAIC,
    TILE_IMAGE,
)
from dsa110_assets.times import hour_partition, tile_partition

CUTOUT_ARCMIN = 15.0
"""Size of a cut-out unless somebody asks for another one."""
_MEANING = {
    "image-pb": "image, corrected for the primary beam", "image": "image", "noise": "noise map", "pb": "primary beam",
    "weight": "weights of a mosaic", "coverage": "tiles that cover each pixel", "residual": "residual", "model": "CLEAN components",
    "dirty": "dirty image", "psf": "point spread function", "alpha": "spectral index", "alpha-error": "error of the spectral index",
}  # fmt: skip


def preview(version_id: int | None, name: str) -> str | None:
    """Address of a preview, which browsers keep for ever; None for a product without a version."""
    return None if version_id is None else files.address(version_id, name)


def gauges(found: Mapping[str, Any], checks: Mapping[str, Check]) -> list[dict[str, Any]]:
    """Quality figures with limits and the month's spread, each with positions between 0 and 100 on one axis."""
    return [_gauge(one, found["month"].get(one["metric"]), checks.get(one["metric"])) for one in found["quality"]]


def _gauge(row: Mapping[str, Any], month: Mapping[str, float] | None, check: Check | None) -> dict[str, Any]:
    limits = [row[name] for name in ("limit_low", "limit_high")]
    marks = [value for value in (row["value"], *limits) if value is not None]
    if month:
        marks += [month["low"], month["high"]]
    low, high = (min(marks), max(marks)) if marks else (0.0, 1.0)
    margin = 0.08 * (high - low) or 0.5

    def place(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return max(0.0, min(100.0, 100.0 * (value - low + margin) / (high - low + 2 * margin)))

    return {
        **row,
        "meaning": row["reason"] if check is None else check.meaning,
        "month": month,
        "at": place(row["value"]),
        "limits_at": [place(one) for one in limits],
        "month_at": [place(month[name]) for name in ("low", "median", "high")] if month else None,
    }


def downloads(listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Files with what they are, FITS images first."""
    found = [{**one, "meaning": _meaning(str(one["name"]))} for one in listed]
    return sorted(found, key=lambda one: (not str(one["name"]).endswith(".fits"), one["name"]))


def _meaning(name: str) -> str:
    from dsa110_assets.products import parse_image_name

    parsed = parse_image_name(name)
    if parsed is None:
        return "preview" if name.endswith(".png") else "cut-outs of the measured sources" if name.endswith("-cutouts.fits") else ""
    channel = "" if parsed.channel is None else f", channel {parsed.channel}"
    return _MEANING.get(parsed.suffix, parsed.suffix) + channel


def cutout_of(
    opened: Access,
    request: Request,
    base: str,
    text: str | None,
    size_arcmin: float | None,
    center: tuple[float, float],
    reach_deg: tuple[float, float],
) -> dict[str, Any]:
    """What the form of a cut-out shows.

    Args:
        opened: the platform.
        request: the request for the page.
        base: address of the API's cut-outs of the product.
        text: position as written; None shows the form alone.
        size_arcmin: width and height; None for the usual one.
        center: RA, Dec of the product.
        reach_deg: half the width and half the height that it may cover.
    """
    from dsa110_assets.common.cut_outs import MOST_PIXELS

    most = MOST_PIXELS * opened.config.cell_arcsec / 60.0
    size = min(size_arcmin or CUTOUT_ARCMIN, most)
    shown: dict[str, Any] = {"text": text or "", "size_arcmin": size, "most_arcmin": most, "png": None, "covered": True}
    ra_deg, dec_deg = names.position(opened, request, text)
    if ra_deg is None or dec_deg is None:
        return shown
    east = abs((ra_deg - center[0] + 180.0) % 360.0 - 180.0) * math.cos(math.radians(dec_deg))
    if east > reach_deg[0] or abs(dec_deg - center[1]) > reach_deg[1]:
        return shown | {"covered": False}
    where = {"ra_deg": f"{ra_deg:.6f}", "dec_deg": f"{dec_deg:.6f}", "size_arcmin": f"{size:g}"}
    return shown | {
        "ra_deg": ra_deg,
        "dec_deg": dec_deg,
        "png": address(base, where, format="png"),
        "fits": address(base, where, format="fits"),
        "where": where,
    }


def parts_of(
    opened: Access,
    request: Request,
    found: dict[str, Any],
    name: str,
    base: str,
    *,
    checks: Mapping[str, Check],
    previews: Sequence[str],
    position: str | None,
    size_arcmin: float | None,
    reach_deg: tuple[float, float],
) -> dict[str, Any]:
    """What the pages of one image and of one mosaic have in common.

    Args:
        opened: the platform.
        request: the request for the page.
        found: the API's answer.
        name: of the product.
        base: address of the product in the API.
        checks: what the quality figures mean.
        previews: endings of preview files, the preferred one first.
        position, size_arcmin: of a cut-out; see `cutout_of`.
        reach_deg: half the width and half the height that it covers.
    """
    there = {str(one["name"]): one["url"] for one in found["files"]}
    return {
        "picture": next((there[f"{name}{ending}"] for ending in previews if f"{name}{ending}" in there), None),
        "gauges": gauges(found, checks),
        "downloads": downloads(found["files"]),
        "cutout": cutout_of(opened, request, f"{base}/cutout", position, size_arcmin, (found["ra_deg"], found["dec_deg"]), reach_deg),
        "provenance": provenance_of(opened, found["version_id"]),
    }


def provenance_of(opened: Access, version_id: int | None) -> dict[str, Any] | None:
    """What a version was made from and what was made from it, each with the address of its page."""
    if version_id is None:
        return None
    found = show_version(opened, version_id)
    for name in ("made_from", "used_for"):
        found[name] = [row | {"page": page_of(opened, row["product"], row["key"])} for row in found[name]]
    return found


def page_of(opened: Access, product: str, key: str) -> str:
    """Address of the page of a product; the Dagster UI's where there is none."""
    if product == TILE_IMAGE.name:
        return f"/ui/images/{key}"
    if product in (HOURLY_MOSAIC.name, NIGHTLY_MOSAIC.name):
        return f"/ui/mosaics/{product.removesuffix('_mosaic')}_{key}"
    if product == CUSTOM_MOSAIC.name:
        return f"/ui/mosaics/{key}"
    if product in (MEASUREMENT_SET.name, CALIBRATED_MS.name, CALIBRATION_TABLES.name):
        return f"/ui/observations/{key}"
    return asset_url(opened.config, product, None if product == ADDED_PHOTOMETRY.name else partition_of(key))


def partition_of(key: str) -> str | None:
    """Partition in the Dagster UI of a product's key: of a tile, an hour or a night; None for a product without."""
    if len(key) == len("2026-03-01T05:10:00"):
        return "|".join(tile_partition(key))
    if len(key) == len("2026-03-01T05"):
        return "|".join(hour_partition(f"{key}:00:00"))
    return key if len(key) == len("2026-03-01") else None
