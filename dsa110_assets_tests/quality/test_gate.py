"""Which verdicts keep a tile out of mosaics."""

from __future__ import annotations

import pytest

from dsa110_assets.quality import gate

GOOD = [(name, True, "fine") for name in gate.TILE_CHECKS]


def changed(name: str, passed: bool | None) -> list[tuple[str, bool | None, str]]:
    return [(n, passed if n == name else p, "because") for n, p, _ in GOOD]


def test_a_tile_that_passes_everything_is_used():
    assert gate.refusal(GOOD) is None
    assert gate.summary(GOOD).startswith("GOOD")


@pytest.mark.parametrize("name", list(gate.TILE_CHECKS))
def test_one_bad_verdict_refuses_the_tile_and_says_why(name: str):
    assert gate.refusal(changed(name, False)) == f"{name}: because"
    assert gate.summary(changed(name, False)).startswith("BAD")


@pytest.mark.parametrize("name", sorted(gate.ALWAYS_MEASURABLE))
def test_what_every_image_has_must_have_been_measured(name: str):
    assert "not measured" in str(gate.refusal(changed(name, None)))
    assert "never judged" in str(gate.refusal([v for v in GOOD if v[0] != name]))


def test_a_field_without_catalogue_sources_is_used_and_what_was_not_measured_is_named():
    verdicts = changed("completeness", None)
    assert gate.refusal(verdicts) is None
    assert "not measured: completeness" in gate.summary(verdicts)


def test_a_tile_that_was_never_judged_is_not_used():
    assert gate.refusal([]) == "its image was never judged"
