"""Trial images: an observation imaged with other settings, beside the products. Nothing that exists is touched.

A trial has a folder of its own, with its FITS files, a preview and `RECORD`. It is not a product: it is not registered,
no mosaic takes it, and it is never stale. A person throws it away; the oldest goes when there are more than `MOST`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dsa110_assets import publication
from dsa110_assets.common.figures import Figures
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NonRetriableError, NotFoundError
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.schema import MeasurementSetRow
from dsa110_assets.stages.platform import Platform

MOST = 20
"""So many trials are kept."""
RECORD = "trial.json"
SETTINGS = {
    "image_size": (int, 64, 8192, "pixels on a side; even"),
    "cell_arcsec": (float, 0.5, 60.0, "pixel size, arcsec"),
    "briggs_robust": (float, -2.0, 2.0, "robustness: -2 sharpest, 2 most sensitive"),
    "taper_arcsec": (float, 0.0, 600.0, "FWHM of a taper that widens the beam, arcsec; 0 for none"),
    "uv_min_lambda": (float, 0.0, 50_000.0, "shortest baseline, wavelengths"),
    "uv_max_lambda": (float, 0.0, 50_000.0, "longest baseline, wavelengths; 0 for no limit"),
    "niter": (int, 0, 1_000_000, "most minor iterations; 0 for the dirty image"),
    "auto_mask_sigma": (float, 1.0, 100.0, "find components down to this many times the noise"),
    "auto_threshold_sigma": (float, 0.1, 100.0, "clean them down to this many times the noise"),
    "selfcal_rounds": (int, 0, 10, "most rounds of self-calibration"),
}
"""Settings that a trial may change, all numbers: type, lowest, highest, and what they are."""
_NAME = re.compile(r"(?P<group>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_(?P<run>[0-9a-z-]{8})")


@dataclass(frozen=True)
class TrialImage:
    """A trial that was made. ``settings``: those that differ from the platform's. ``figures``: as of an image."""

    name: str
    observation: str
    settings: Mapping[str, float]
    verdict: str
    reason: str
    figures: Mapping[str, Any]
    made_at: datetime
    run_id: str


def trials_dir(paths: ProductPaths) -> Path:
    """Folder of the trials."""
    return paths.scratch_dir / "trials"


def checked(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return settings as numbers of their types.

    Raises:
        InvalidRequestError: one is unknown, no number, or out of its range.
    """
    found: dict[str, float] = {}
    for name, value in settings.items():
        if name not in SETTINGS:
            raise InvalidRequestError(f"setting {name}", "cannot be tried", f"choose from {', '.join(SETTINGS)}")
        kind, low, high, _ = SETTINGS[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or kind(value) != value:
            raise InvalidRequestError(f"setting {name}", f"{value!r} is not {kind.__name__} from {low:g} to {high:g}", "correct it")
        found[name] = kind(value)
    if not found:
        raise InvalidRequestError("settings", "none differs from the platform's", f"give some of {', '.join(SETTINGS)}")
    return found


def defaults(config: PipelineConfig) -> dict[str, float]:
    """The platform's own values of `SETTINGS`: those of `ImagingOptions.from_config`, without loading the imager.

    What the configuration does not have is 0: no taper, no limit of baselines.
    """
    return {name: getattr(config, "clean_niter" if name == "niter" else name, 0.0) for name in SETTINGS}


def image_on_trial(platform: Platform, group_id: str, settings: Mapping[str, Any], run_id: str) -> tuple[Path, Figures]:
    """Image the calibrated observation with other settings; return the folder and the figures.

    Raises:
        InvalidRequestError: see `checked`.
        NonRetriableError: there is no calibrated Measurement Set.
    """
    from dsa110_assets.catalogs import sky
    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.quality import gate
    from dsa110_assets.quality.image import ImageLimits, judge_tile, read_tile
    from dsa110_assets.stages.products.references import imaging_sky, reference_path

    changed = checked(settings)
    source = platform.paths.calibrated_ms(group_id)
    with platform.database.session() as session:
        row = session.get(MeasurementSetRow, str(source))
        if row is None or not source.exists():
            raise NonRetriableError(group_id, "it has no calibrated Measurement Set", "make `calibrated_ms` first: `dsa110 backfill NIGHT`")
        ra_deg, dec_deg = row.ra_deg, row.dec_deg
    options = replace(ImagingOptions.from_config(platform.config), **changed)  # pyright: ignore[reportArgumentType]
    near = sky.cone(sky.load_reference(reference_path(platform)), ra_deg, dec_deg, options.field_radius_deg)
    folder = trials_dir(platform.paths) / f"{group_id}_{run_id[:8]}"
    with publication.publish(folder) as staged:
        staged.mkdir()
        headers = {"DSAGROUP": group_id, "DSATRIAL": json.dumps(changed)}
        report = image_tile(source, staged, group_id, options, mask_sky=imaging_sky(platform, ra_deg, dec_deg), provenance=headers)
        verdicts = judge_tile(read_tile(staged, group_id), near, ImageLimits.from_config(platform.config))
        verdict = gate.verdict_on(verdicts)
        figures: Figures = {**report.figures(), **{one.name: one.value for one in verdicts if one.name != "dynamic_range"}}
        record = {
            "observation": group_id, "settings": changed, "verdict": str(verdict.word), "reason": verdict.reason, "figures": figures,
            "preview": report.preview.name, "made_at": datetime.now(UTC).isoformat(), "run_id": run_id,
        }  # fmt: skip
        (staged / RECORD).write_text(json.dumps(record))
    for old in trials(platform.paths)[MOST:]:
        throw_away(platform.paths, old.name)
    return folder, {"verdict": verdict.line(), **figures}


def trials(paths: ProductPaths) -> list[TrialImage]:
    """All trials, newest first."""
    places = trials_dir(paths)
    found = [_read(one) for one in places.iterdir() if _NAME.fullmatch(one.name)] if places.is_dir() else []
    return sorted((one for one in found if one is not None), key=lambda one: one.made_at, reverse=True)


def preview(paths: ProductPaths, name: str) -> Path:
    """Preview (PNG) of a trial.

    Raises:
        NotFoundError: there is none.
    """
    folder = _folder(paths, name)
    return folder / Path(json.loads((folder / RECORD).read_text())["preview"]).name


def throw_away(paths: ProductPaths, name: str) -> None:
    """Remove a trial.

    Raises:
        NotFoundError: there is none of this name.
    """
    publication.withdraw(_folder(paths, name))


def _folder(paths: ProductPaths, name: str) -> Path:
    folder = trials_dir(paths) / name
    if _NAME.fullmatch(name) is None or not (folder / RECORD).is_file():
        raise NotFoundError(f"trial {name[:40]}", "there is none of this name", "list them: GET /api/trials")
    return folder


def _read(folder: Path) -> TrialImage | None:
    """A trial by its folder; None if it is being removed."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    made_at = datetime.fromisoformat(record.pop("made_at"))
    return TrialImage(name=folder.name, made_at=made_at, **{key: record[key] for key in record if key != "preview"})
