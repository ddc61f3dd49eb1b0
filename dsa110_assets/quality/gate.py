"""The verdict on a tile in words: whether mosaics may use it, why not, and the next step.

All places that show a verdict on a tile take its words from here: the metadata and the tag of its run, `dsa110 ingest
status`, alerts, mosaics, the playbook. It imports little, because stages, checks and sensors import it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from dsa110_assets.quality.verdict import Verdict


@dataclass(frozen=True)
class Check:
    """One check of a tile image or of a blind source catalog.

    ``meaning``: what it measures. ``subject``: its short name in counts of bad tiles. ``figure``: a phrase with the
    value. ``next_step``: what a person does if it is bad. ``every_image_has_it``: an image in which it cannot be
    measured is not usable; the other checks need sources in the field.
    """

    meaning: str
    subject: str
    figure: str
    next_step: str
    every_image_has_it: bool = False


_RESIDUAL = "look at the residual image: something was not cleaned, or bright sources have artifacts"
TILE_CHECKS = {
    "wrong_antennas": Check(
        "Number of antennas in the image whose gains are certainly wrong by the tile's own bright sources",
        "calibration",
        "{value} antennas with wrong gains",
        "the calibration: look at the plots of `calibration_tables` of its night; mark an antenna that stays wrong with "
        '`dsa110 mark antenna ANTENNA --from TIME --reason "wrong gain" --by NAME`',
    ),
    "noise_over_thermal": Check(
        "Noise of the residual inside the beam over the prediction from the weights of the visibilities",
        "noise",
        "noise {value} times thermal",
        "too high: look at `flagged_fraction` of `measurement_set` and the plots of `calibration_tables`; too low: check `PIPELINE_SEFD_JY`",
        every_image_has_it=True,
    ),
    "dynamic_range": Check(
        "Brightest pixel over noise, where the catalog predicts a bright source",
        "dynamic range",
        "dynamic range {value}",
        "look at the preview, and at the plots of `calibration_tables` of its night",
    ),
    "residual_peak_sigma": Check(
        "Largest deviation of the residual over noise: uncleaned sources or artifacts",
        "residual peak",
        "largest residual {value} sigma",
        _RESIDUAL,
        every_image_has_it=True,
    ),
    "residual_std_over_mad": Check(
        "Standard deviation of the residual over its robust noise: 1 for Gaussian noise",
        "residual scatter",
        "scatter of the residual {value} times that of Gaussian noise",
        _RESIDUAL,
        every_image_has_it=True,
    ),
    "beam_axis_ratio": Check(
        "Major over minor axis of the restoring beam: large if antennas or an arm are missing",
        "beam shape",
        "restoring beam {value} times as long as wide",
        "look for missing antennas: `dead_antennas` and `flagged by antenna` of `measurement_set`",
        every_image_has_it=True,
    ),
    "flux_ratio_to_catalog": Check(
        "Median flux over catalog flux",
        "flux scale",
        "fluxes {value} times the catalog's",
        "the flux scale is wrong: look at `calibration_tables` of its night",
    ),
    "position_offset_arcsec": Check(
        "Length of the median offset from the catalog's positions",
        "astrometry",
        "positions off by {value} arcsec",
        "phases are wrong: look at `calibration_tables` of its night",
    ),
    "completeness": Check(
        "Share of the catalog's sources above 10 sigma that are in the image",
        "completeness",
        "share of the catalog's sources found {value}",
        "look at the preview: wrong field, wrong phases, or strong flagging",
    ),
}
"""All checks of a tile image. The first bad one gives the tile's next step."""

CATALOG_CHECKS = {
    "false_share": Check(
        "Places below minus the detection threshold over detections above it: the share of false detections",
        "false detections",
        "false share of the detections {value}",
        "look at the verdicts of its tiles: artifacts around bright sources, or bright sources outside the images",
    ),
    "matched_share": Check(
        "Share of the detections bright enough for the reference catalog that it has",
        "unknown detections",
        "share of the detections that the catalog has {value}",
        "as for `false_share`; if that is good, look at the reference catalog: `dsa110 catalogs list`",
    ),
}
"""Checks of an hour's blind source catalog. They keep nothing out; a bad one says: do not trust its rows."""

ALWAYS_MEASURABLE = frozenset(name for name, check in TILE_CHECKS.items() if check.every_image_has_it)
_NOT_MEASURED_STEP = "look at the image, and at `flagged_fraction` of `measurement_set`: most of its data may be flagged"
_NEVER_JUDGED_STEP = "run the job `judge_again` for it"
_PROVISIONAL_STEP = "nothing: its tables are borrowed from another night, and it will be made again when the night's calibrator is solved"


class TileWord(StrEnum):
    """The verdict on a tile in a word. Mosaics take only good tiles."""

    GOOD = "good"
    REFUSED = "refused"
    NOT_MEASURED = "not measured"
    """It was never judged, or a check that every image must have could not be measured."""


WORST_FIRST = (TileWord.REFUSED, TileWord.NOT_MEASURED, TileWord.GOOD)


@dataclass(frozen=True)
class TileVerdict:
    """The verdict on a tile as a whole, in words for people.

    ``reason``, ``next_step``: empty for a good one. ``bad``: checks that keep it out of mosaics. ``unmeasured``: other
    checks that could not be measured. ``provisional``: nearer tables may still come, and with them another image.
    """

    word: TileWord
    reason: str = ""
    next_step: str = ""
    bad: tuple[str, ...] = ()
    unmeasured: tuple[str, ...] = ()
    provisional: bool = False

    @property
    def is_good(self) -> bool:
        """Whether mosaics and all later products may use the tile."""
        return self.word is TileWord.GOOD

    def line(self) -> str:
        """Verdict, reason and next step."""
        if self.is_good:
            return f"{self.word}; not measured: {', '.join(self.unmeasured)}" if self.unmeasured else str(self.word)
        return f"{self.word}: {self.reason}. Next: {self.next_step}"


def count_bad_checks(verdicts: Iterable[TileVerdict]) -> str:
    """Bad checks and their number of tiles, the most frequent first: ``noise (3), flux scale (1)``."""
    subjects = Counter(TILE_CHECKS[name].subject if name in TILE_CHECKS else name for verdict in verdicts for name in verdict.bad)
    return ", ".join(f"{subject} ({number})" for subject, number in subjects.most_common())


def refuses(name: str, passed: bool | None) -> bool:
    """Whether a check keeps a tile out of mosaics: it is bad, or is not measured although every image must have it."""
    return passed is False or (passed is None and name in ALWAYS_MEASURABLE)


def describe(verdict: Verdict) -> str:
    """The result of a check in words: ``noise 3.2 times thermal (limits 0.8 and 2)``, or why it was not measured."""
    check = TILE_CHECKS.get(verdict.name)
    if verdict.passed is None:
        return f"{check.subject if check else verdict.name} could not be measured ({verdict.reason or 'no reason was recorded'})"
    if check is None or verdict.value is None:
        return f"{verdict.name}: {verdict.reason}"
    limits = _limits(verdict)
    return check.figure.format(value=f"{verdict.value:.3g}") + (f" ({limits})" if limits else "")


def _limits(verdict: Verdict) -> str:
    low, high = verdict.limit
    if low is not None and high is not None:
        return f"limits {low:.3g} and {high:.3g}"
    return f"at most {high:.3g}" if high is not None else f"at least {low:.3g}" if low is not None else ""


def verdict_on(verdicts: Iterable[Verdict], *, provisional: bool = False) -> TileVerdict:
    """The verdict on a tile.

    Args:
        verdicts: verdicts of its checks. A tile without any was never judged and is not used.
        provisional: its tables are borrowed, and those of its own night may still come. It matters only if it is not
            good.
    """
    by_name = {verdict.name: verdict for verdict in verdicts}
    ordered = [by_name[name] for name in (*TILE_CHECKS, *sorted(by_name.keys() - TILE_CHECKS)) if name in by_name]
    bad = [one for one in ordered if refuses(one.name, one.passed)]
    missing = [name for name in TILE_CHECKS if name in ALWAYS_MEASURABLE and name not in by_name]
    unmeasured = tuple(one.name for one in ordered if one.passed is None and not refuses(one.name, one.passed))
    if not bad and not missing:
        return TileVerdict(TileWord.GOOD, unmeasured=unmeasured)
    measured_bad = next((one for one in bad if one.passed is False), None)
    reasons = [describe(one) for one in bad] + [f"{TILE_CHECKS[name].subject} was never judged" for name in missing]
    if measured_bad is not None:
        step = TILE_CHECKS[measured_bad.name].next_step if measured_bad.name in TILE_CHECKS else _RESIDUAL
    else:
        step = _NOT_MEASURED_STEP if bad else _NEVER_JUDGED_STEP
    return TileVerdict(
        TileWord.REFUSED if measured_bad is not None else TileWord.NOT_MEASURED,
        "; ".join(reasons) if by_name else "its image was never judged",
        _PROVISIONAL_STEP if provisional else step,
        (*(one.name for one in bad), *missing),
        unmeasured,
        provisional,
    )
