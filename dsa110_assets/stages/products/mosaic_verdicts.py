"""The verdict on a mosaic in a word: of its own figures, and, for an hour's, of its blind source catalog.

A mosaic with a bad verdict stays in use: each of its fluxes carries the noise map. The verdict says what to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from dsa110_assets.quality.gate import CATALOG_CHECKS
from dsa110_assets.quality.verdict import Outcome
from dsa110_assets.registry.queries.quality import Figure, qa_metrics_of
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.table import CUSTOM_MOSAIC, HOURLY_MOSAIC, NIGHTLY_MOSAIC, SOURCE_CATALOG

PRODUCTS = {MosaicKind.HOURLY: HOURLY_MOSAIC.name, MosaicKind.NIGHTLY: NIGHTLY_MOSAIC.name, MosaicKind.CUSTOM: CUSTOM_MOSAIC.name}
_NEXT_STEPS = {name: check.next_step for name, check in CATALOG_CHECKS.items()} | {
    "snr_scatter": "look at the verdicts of its tiles: artifacts or wrong noise; if all are good, make the mosaic again",
    "tiles_unreadable": "make the `tile_image` of the named tiles again, then the mosaic",
}
_NEVER_JUDGED_STEP = "make the mosaic again; an earlier release did not judge mosaics"


@dataclass(frozen=True)
class MosaicVerdict:
    """The verdict on a mosaic. ``reason``, ``next_step``: empty for a good one."""

    word: Outcome
    reason: str = ""
    next_step: str = ""


def key_of_mosaic(kind: str, name: str) -> str:
    """Key under which a mosaic is registered: its hour, its night, or the name of one on demand."""
    return name if kind == MosaicKind.CUSTOM else name.partition("_")[2]


def verdict_on_mosaic(own: Iterable[Figure], of_catalog: Iterable[Figure] = ()) -> MosaicVerdict:
    """The verdict from the figures of a mosaic, and of its blind source catalog.

    Bad if one of them is bad. Not measured if the mosaic has no figure of its own, or one that could not be measured; a
    catalog with too few sources to judge it does not matter.
    """
    mine = list(own)
    bad = [one for one in (*mine, *of_catalog) if one.passed is False]
    if bad:
        reason = "; ".join(_words(one) for one in bad)
        return MosaicVerdict(Outcome.BAD, reason, _NEXT_STEPS.get(bad[0].metric, "look at the figure on its page"))
    missing = [one for one in mine if one.passed is None]
    if missing or not mine:
        reason = "; ".join(f"{one.metric}: {one.reason or 'could not be measured'}" for one in missing) or "it was never judged"
        return MosaicVerdict(Outcome.NOT_MEASURED, reason, _NEVER_JUDGED_STEP if not mine else "look at the image and its noise map")
    return MosaicVerdict(Outcome.GOOD)


def mosaic_verdicts(session: Session, mosaics: Sequence[Mapping[str, str]]) -> dict[str, MosaicVerdict]:
    """Verdicts by name. ``mosaics``: rows with ``name`` and ``kind``."""
    found: dict[str, MosaicVerdict] = {}
    for kind, product in PRODUCTS.items():
        keys = {one["name"]: key_of_mosaic(kind, one["name"]) for one in mosaics if one["kind"] == kind}
        if not keys:
            continue
        own = qa_metrics_of(session, product, keys.values())
        catalogs = qa_metrics_of(session, SOURCE_CATALOG.name, keys.values()) if kind is MosaicKind.HOURLY else {}
        found |= {name: verdict_on_mosaic(own[key], catalogs.get(key, ())) for name, key in keys.items()}
    return found


def _words(figure: Figure) -> str:
    limits = [f"at least {figure.limit_low:.3g}"] if figure.limit_low is not None else []
    limits += [f"at most {figure.limit_high:.3g}"] if figure.limit_high is not None else []
    value = "" if figure.value is None else f" {figure.value:.3g}"
    return f"{figure.metric}{value}" + (f" ({', '.join(limits)})" if limits else "")
