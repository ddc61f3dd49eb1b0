"""The parts of products that retention removes: their files, what is due, and how they are removed.

What is due is asked from the registry (`registry.queries.storage`). No product is opened, and a day's cleaning costs
what became due that day. A part that cannot be removed is named and marked, and the rest goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dsa110_assets import publication
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, PipelineError
from dsa110_assets.folders import Folder
from dsa110_assets.products import cutouts_path, image_path, parse_image_name
from dsa110_assets.registry.queries import storage
from dsa110_assets.registry.queries.storage import PartOnDisk
from dsa110_assets.registry.schema import MeasurementSetRow, Photometry, Source
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.retention import HOURLY_IMAGES, Part
from dsa110_assets.stages.table import TABLE


def keep_days(config: PipelineConfig, part: Part) -> float:
    """Days for which a part is kept; 0 means forever."""
    return float(getattr(config, part.setting))


def rules(config: PipelineConfig) -> dict[str, tuple[Part, float]]:
    """Part and days by rule, the shortest first: what can be made again goes before what is made from it."""
    found = {part.rule: (part, keep_days(config, part)) for row in TABLE for part in row.parts}
    return dict(sorted(found.items(), key=lambda one: (one[1][1] == 0, one[1][1])))


def sizes_of_parts(product: Product, path: Path) -> dict[str, int]:
    """Bytes of each part of a product on disk, by rule."""
    return {part.rule: sum(file.stat().st_size for file in files_of(part, path)) for part in product.parts}


def files_of(part: Part, path: Path) -> Iterator[Path]:
    """Files that belong to a part of the product at ``path``."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path] if path.is_file() else []:
        if file.is_file() and not file.is_symlink() and (part.is_whole or _belongs(part, file.name)):
            yield file


def _belongs(part: Part, name: str) -> bool:
    parsed = parse_image_name(name)
    if parsed is None:
        return False
    return parsed.suffix in (part.suffixes if parsed.channel is None else part.channel_suffixes)


def due(platform: Platform, now: datetime) -> list[PartOnDisk]:
    """Parts that are older than their setting allows."""
    with platform.database.session() as session:
        return [
            one
            for rule, (_, days) in rules(platform.config).items()
            if days
            for one in storage.parts_due(session, rule, now - timedelta(days=days))
        ]


def retire(platform: Platform, one: PartOnDisk, now: datetime) -> str | None:
    """Remove a part and record it; return why it could not be removed, or None.

    A part that was made again since, or whose observation is being processed, stays. A kill in between leaves the part
    registered and its files in registered staging, or some of its planes; the next cleaning ends the work.
    """
    part = rules(platform.config)[one.rule][0]
    with platform.database.session() as session:
        if not storage.lock_part(session, one):
            return None
        path = Path(one.path)
        try:
            _check_place(platform, path)
            if part.is_whole:
                publication.withdraw(path)
            else:
                if part == HOURLY_IMAGES:
                    _leave_cutouts(session, path)
                for file in list(files_of(part, path)):
                    file.unlink(missing_ok=True)
        except (OSError, PipelineError) as error:
            problem = str(error)
            storage.mark_part(session, one, problem=problem)
            return problem
        session.execute(delete(MeasurementSetRow).where(MeasurementSetRow.path == one.path))
        storage.mark_part(session, one, retired_at=now)
    return None


def _leave_cutouts(session: Session, mosaic: Path) -> None:
    """Write the cut-outs of the sources that were measured in a mosaic, so that points of light curves can be shown.

    Raises:
        PipelineError: the image cannot be read, or the cut-outs cannot be written; the image stays.
    """
    from dsa110_assets.photometry.cutouts import write_cutouts

    image = image_path(mosaic, mosaic.name, "image")
    measured = select(Photometry.source_id).where(Photometry.mosaic_name == mosaic.name)
    rows = session.execute(select(Source.source_id, Source.ra_deg, Source.dec_deg).where(Source.source_id.in_(measured))).tuples().all()
    if not image.is_file() or not rows:
        return
    numbers, ra_deg, dec_deg = (np.array(column) for column in zip(*rows, strict=True))
    with publication.publish(cutouts_path(mosaic, mosaic.name)) as staged:
        write_cutouts(image, staged, numbers, ra_deg, dec_deg)


def _check_place(platform: Platform, path: Path) -> None:
    """Refuse to remove anything outside the folders of products, or through a link.

    Raises:
        ConfigurationError: the path lies elsewhere, or is a link.
    """
    roots = [platform.paths.folder(folder) for folder in Folder]
    inside = any(root != path and path.is_relative_to(root) for root in roots)
    if not inside or path.is_symlink():
        cause = "is a symbolic link" if inside else "lies outside the folders of products"
        raise ConfigurationError(path, f"{cause}; it was left alone", "remove it by hand, then `dsa110 clean --thorough`")
