"""What a verdict leads to: whether a tile may be used by what comes after it.

Light on purpose: stages, checks and sensors ask it. What does not belong here: measuring.
"""

from __future__ import annotations

from collections.abc import Iterable

TILE_CHECKS = {
    "noise_over_thermal": "Noise of the residual inside the beam over what the weights of the visibilities predict",
    "dynamic_range": "Brightest pixel over noise, where the catalogue lets expect a bright source",
    "residual_peak_sigma": "Largest deviation of the residual over noise: what was not cleaned, or artefacts",
    "residual_std_over_mad": "Standard deviation of the residual over its robust noise: 1 for Gaussian noise",
    "beam_axis_ratio": "Major over minor axis of the restoring beam: antennas or an arm missing",
    "flux_ratio_to_catalog": "Median flux over catalogue flux",
    "position_offset_arcsec": "Length of the median offset from the catalogue's positions",
    "completeness": "Share of the catalogue's sources above 10 sigma that are in the image",
}
"""Every verdict on a tile image, with what it measures."""

ALWAYS_MEASURABLE = frozenset({"noise_over_thermal", "residual_peak_sigma", "residual_std_over_mad", "beam_axis_ratio"})
"""An image in which one of these cannot be measured is not an image; the others need sources in the field."""


def blocks(name: str, passed: bool | None) -> bool:
    """Whether a verdict keeps a tile out of mosaics: it is bad, or could not be had although every image has it."""
    return passed is False or (passed is None and name in ALWAYS_MEASURABLE)


def refusal(verdicts: Iterable[tuple[str, bool | None, str]]) -> str | None:
    """Why a tile must not be used, None when it may be.

    Args:
        verdicts: (name, passed, reason) of each; a tile without any was never judged and is not used.
    """
    judged = list(verdicts)
    if not judged:
        return "its image was never judged"
    missing = ALWAYS_MEASURABLE.difference(name for name, _, _ in judged)
    bad = [f"{name}: {'not measured, ' if passed is None else ''}{reason}" for name, passed, reason in judged if blocks(name, passed)]
    bad += [f"{name}: never judged" for name in sorted(missing)]
    return "; ".join(bad) or None


def summary(verdicts: Iterable[tuple[str, bool | None, str]]) -> str:
    """One line for people: good or bad, why, and what could not be measured."""
    judged = list(verdicts)
    bad = refusal(judged)
    unknown = [name for name, passed, _ in judged if passed is None and not blocks(name, passed)]
    if bad is not None:
        return f"BAD, mosaics do not take it. {bad}"
    return f"GOOD, but not measured: {', '.join(unknown)}" if unknown else "GOOD in all that was measured"
