"""The demonstration's promises about fluxes: errors must describe the scatter, and one wrong flux breaks them."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.cli.demo_report import DemoReport


def report(pulls, *, bright_error=0.0):
    """A night of sources of 0.3 Jy with errors of 1 mJy and these pulls, and a calibrator."""
    true = np.append(np.full(len(pulls), 0.3), 8.8)
    measured = np.append(0.3 + 1e-3 * np.asarray(pulls), 8.8 * (1 + bright_error))
    sources = pd.DataFrame(
        {
            "name": [f"s{k}" for k in range(true.size)],
            "mosaic": "hourly_2026-03-12T05",
            "snr": 300.0,
            "true_jy": true,
            "flux_jy": measured,
            "flux_err_jy": 1e-3,
            "calibration_err_jy": 0.6e-3,
            "error": measured / true - 1,
            "offset_arcsec": 0.05,
        }
    )
    return DemoReport(sources, pd.Series([1.0]), pd.DataFrame({"name": ["s1"]}), "s1")


def broken(one):
    return [promise for promise, _, kept in one.promises() if not kept]


NORMAL = np.random.default_rng(1).normal(size=64)


def test_normal_pulls_keep_all_promises():
    assert broken(report(NORMAL)) == []
    assert report(NORMAL).passed


def test_the_part_of_the_errors_that_is_not_noise_is_told():
    (figure,) = (figure for promise, figure, _ in report(NORMAL).promises() if promise == "errors of fluxes describe their scatter")
    assert figure.endswith("(noise enlarged by 25.0% for what is not noise, at most 25%)")  # 1 / 0.8


def test_one_flux_off_by_nine_errors_breaks_them_though_it_is_right_within_3_percent():
    wrong = report([*NORMAL[:-1], 8.9])
    assert wrong.sources["error"].abs().max() < 0.03
    assert "no flux more than 4.5 of its errors from the truth" in broken(wrong)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_errors_of_the_wrong_size_break_them(factor):
    assert broken(report(factor * np.clip(NORMAL, -2, 2))) == ["errors of fluxes describe their scatter"]


def test_a_calibrator_that_is_wrong_by_a_thousandth_breaks_them():
    assert "no flux more than 4.5 of its errors from the truth" in broken(report(NORMAL, bright_error=-0.001))


def test_a_flux_that_is_missing_breaks_them():
    missing = report([*NORMAL[:-1], np.nan])
    assert "no flux more than 4.5 of its errors from the truth" in broken(missing)
