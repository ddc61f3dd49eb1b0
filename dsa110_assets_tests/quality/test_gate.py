"""The verdict on a tile in words: which checks keep it out of mosaics, why, and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsa110_assets.quality import gate
from dsa110_assets.quality.gate import TileWord
from dsa110_assets.quality.verdict import Verdict

GOOD = [Verdict.judge(name, 1.0, 0.8, 2.0, "measured") for name in gate.TILE_CHECKS]


def changed(name: str, value: float | None) -> list[Verdict]:
    return [Verdict.judge(one.name, value, one.low, one.high, "no pixel has noise") if one.name == name else one for one in GOOD]


def test_a_tile_that_passes_everything_is_used():
    verdict = gate.verdict_on(GOOD)
    assert verdict.is_good
    assert verdict.line() == "good"


@pytest.mark.parametrize("name", list(gate.TILE_CHECKS))
def test_one_bad_check_refuses_the_tile_with_a_reason_and_a_next_step(name: str):
    verdict = gate.verdict_on(changed(name, 3.21))
    assert (verdict.word, verdict.bad, verdict.is_good) == (TileWord.REFUSED, (name,), False)
    assert "3.21" in verdict.reason
    assert "(limits 0.8 and 2)" in verdict.reason
    assert verdict.next_step == gate.TILE_CHECKS[name].next_step
    assert verdict.line() == f"refused: {verdict.reason}. Next: {verdict.next_step}"


def test_a_verdict_gives_the_value_with_its_unit_and_limits():
    line = gate.verdict_on(changed("noise_over_thermal", 3.2)).line()
    assert line.startswith("refused: noise 3.2 times thermal (limits 0.8 and 2). Next: too high: look at `flagged_fraction`")
    high_only = Verdict.judge("position_offset_arcsec", 4.7, None, 1.0, "")
    assert gate.describe(high_only) == "positions off by 4.7 arcsec (at most 1)"
    low_only = Verdict.judge("completeness", 0.25, 0.9, None, "")
    assert gate.describe(low_only) == "share of the catalog's sources found 0.25 (at least 0.9)"


def test_all_bad_checks_are_named_and_the_first_gives_the_next_step():
    several = [replace(one, passed=False, value=9.0) if one.name in ("noise_over_thermal", "completeness") else one for one in GOOD]
    verdict = gate.verdict_on(reversed(several))
    assert verdict.bad == ("noise_over_thermal", "completeness")
    assert verdict.reason.index("noise") < verdict.reason.index("share")
    assert verdict.next_step == gate.TILE_CHECKS["noise_over_thermal"].next_step
    assert gate.count_bad_checks([verdict, gate.verdict_on(changed("completeness", 0.1))]) == "completeness (2), noise (1)"


@pytest.mark.parametrize("name", sorted(gate.ALWAYS_MEASURABLE))
def test_a_tile_without_a_check_that_every_image_allows_is_not_measured(name: str):
    unmeasured = gate.verdict_on(changed(name, None))
    assert unmeasured.word is TileWord.NOT_MEASURED
    assert "could not be measured (no pixel has noise)" in unmeasured.line()
    assert unmeasured.next_step
    missing = gate.verdict_on([one for one in GOOD if one.name != name])
    assert missing.word is TileWord.NOT_MEASURED
    assert "was never judged" in missing.line()


def test_a_tile_without_catalog_sources_is_good_and_names_what_was_not_measured():
    verdict = gate.verdict_on(changed("completeness", None))
    assert verdict.is_good
    assert verdict.line() == "good; not measured: completeness"


def test_a_tile_that_was_never_judged_is_not_used():
    verdict = gate.verdict_on([])
    assert verdict.word is TileWord.NOT_MEASURED
    assert verdict.line() == "not measured: its image was never judged. Next: run the job `judge_again` for it"


def test_a_provisional_refusal_needs_no_action_and_a_good_tile_is_never_provisional():
    verdict = gate.verdict_on(changed("flux_ratio_to_catalog", 0.06), provisional=True)
    assert (verdict.word, verdict.provisional) == (TileWord.REFUSED, True)
    assert "will be made again when the night's calibrator is solved" in verdict.next_step
    assert not gate.verdict_on(GOOD, provisional=True).provisional
