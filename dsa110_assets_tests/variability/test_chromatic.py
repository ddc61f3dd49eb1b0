"""The channel test on lenses made with the published equation, gain errors, intrinsic changes, and no event."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.variability import EventSearch, LightCurves, ese_scores
from dsa110_assets.variability.chromatic import normalised_channels
from dsa110_assets.variability.ese import trials_corrected
from dsa110_assets.variability.lens import core_half_width, gain

FREQUENCY = np.linspace(1.32e9, 1.49e9, 8)
MIDDLE = 1.405e9


def curves(flux, error):
    n_sources, n_epochs = flux.shape
    return LightCurves(
        source_id=np.arange(n_sources),
        epoch_name=np.array([f"e{k:03d}" for k in range(n_epochs)]),
        epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
        offsets=np.arange(n_sources + 1, dtype=np.int64) * n_epochs,
        epoch=np.tile(np.arange(n_epochs, dtype=np.int32), n_sources),
        flux_jy=flux.ravel(),
        flux_err_jy=np.full(flux.size, error),
        is_limit=np.zeros(flux.size, dtype=bool),
        normalised=True,
    )


def observe(seed, n, change, *, n_epochs=40, error=0.002, width=6.0, alpha=2.0, size=0.3, share=0.6):
    """Sources of 1 Jy with 3 % variability common to all frequencies, and 8 channels with the same event.

    ``change``: relative flux of the event in a channel, from its frequency and the lens's flux in the band and the
    channel.
    """
    rng = np.random.default_rng(seed)
    day = np.arange(n_epochs) - (n_epochs - 1) / 2 + rng.uniform(-0.5, 0.5, (n, 1))
    place = 2 * core_half_width(alpha, size) * day / width
    whole = 1 + share * (gain(place, alpha, size) - 1)
    common = 1 + 0.03 * rng.standard_normal((n, n_epochs))
    total, parts = np.zeros((n, n_epochs)), []
    for c, nu in enumerate(FREQUENCY):
        lens = 1 + share * (gain(place, alpha * (MIDDLE / nu) ** 2, size) - 1)
        flux = change(nu, whole, lens) * common * (nu / MIDDLE) ** -0.7 + error * 8**0.5 * rng.standard_normal((n, n_epochs))
        total += flux / 8
        parts.append(curves(flux, error * 8**0.5).to_table().assign(channel=c, frequency_hz=nu))
    return curves(total, error), pd.concat(parts, ignore_index=True)


def scores(light, channels):
    search = EventSearch()
    search.add(light)
    return search.scores(), search.scores(channels)


@pytest.mark.parametrize(("alpha", "size", "share"), [(1.0, 0.3, 1.0), (2.0, 0.6, 0.6), (5.0, 0.3, 0.5), (10.0, 0.6, 0.5)])
def test_lenses_of_any_strength_are_recognized_between_channels(alpha, size, share):
    _, with_channels = scores(*observe(1, 12, lambda nu, whole, lens: lens, alpha=alpha, size=size, share=share))
    assert (with_channels["chromaticity"] == "lens").mean() >= 0.9
    assert (with_channels["score"] > 5).mean() >= 0.9
    assert with_channels["reasons"].str.contains("refraction as lambda\\^2").mean() >= 0.9


def test_an_achromatic_dip_is_not_a_lens_and_loses_its_score():
    """A gain error or an eclipse has the same light curve at all frequencies."""
    without, with_channels = scores(*observe(2, 30, lambda nu, whole, lens: whole, alpha=1.0, share=1.0))
    assert (without["score"] > 5).mean() > 0.8
    assert (with_channels["chromaticity"] == "achromatic").all()
    assert with_channels["score"].max() < 4
    assert with_channels["channel_expected"].median() > 10
    assert abs(with_channels["channel_significance"].mean()) < 0.5
    assert with_channels["channel_significance"].std() < 1.3
    assert with_channels["reasons"].str.contains("no lens but a gain error").all()


@pytest.mark.parametrize("power", [1.0, -2.0])
def test_a_depth_that_follows_a_power_of_frequency_is_intrinsic(power):
    _, found = scores(*observe(3, 12, lambda nu, whole, lens: 1 + (whole - 1) * (nu / MIDDLE) ** power))
    assert (found["chromaticity"] == "intrinsic").mean() >= 0.9
    assert found["reasons"].str.contains("power of frequency").mean() >= 0.9


def test_a_faint_event_is_undecided_and_keeps_its_score():
    without, found = scores(*observe(4, 12, lambda nu, whole, lens: lens, alpha=1.0, share=1.0, error=0.1))
    assert (found["chromaticity"] == "undecided").mean() >= 0.7
    assert (np.abs(found["score"] - without["score"]) < 1.5).mean() >= 0.8
    assert found["reasons"].str.contains("too little to tell").mean() >= 0.7


def test_without_channels_the_score_is_that_of_the_band_and_the_reasons_report_it():
    light, channels = observe(5, 6, lambda nu, whole, lens: lens, alpha=1.0, share=1.0)
    without = ese_scores(light)
    one_channel = ese_scores(light, channels=channels[channels["channel"] == 0])
    pd.testing.assert_series_equal(one_channel["score"], without["score"])
    assert (without["chromaticity"] == "no channels").all()
    assert (without["n_channels"] == 0).all()
    assert without["reasons"].str.contains("no channel images").all()


def test_false_alarm_rate_with_channels_is_the_stated_one():
    """20 000 light curves without an event, each a separate list; those above 3.5 sigma have channels.

    `benchmarks/variability.py` draws more.
    """
    rng = np.random.default_rng(6)
    n, n_epochs, error = 20_000, 6, 0.05
    flux = 1 + 0.05 * rng.standard_normal((n, n_epochs)) + error * rng.standard_normal((n, n_epochs))
    search = EventSearch()
    search.add(curves(flux, error))
    strong = np.array(search.strongest(n))
    assert strong.size > 20
    noise = 2.0 * error * rng.standard_normal((4, strong.size, n_epochs))
    noise -= noise.mean(axis=0)
    parts = [
        curves(flux[strong] + one, 2 * error).to_table().assign(channel=c, frequency_hz=1.3e9 + 5e7 * c) for c, one in enumerate(noise)
    ]
    channels = pd.concat(parts, ignore_index=True)
    table = search.scores(channels.assign(source_id=strong[channels["source_id"]]))
    assert (table["n_channels"] > 0).sum() > 10
    score, _ = trials_corrected(table["significance"].to_numpy(), table["trials"].to_numpy())
    for threshold, stated in ((2.0, 0.0455), (3.0, 0.0027), (4.0, 6.3e-5), (5.0, 5.7e-7)):
        expected = n * stated
        assert (score >= threshold).sum() <= expected + 3 * np.sqrt(expected) + 1
    assert (score >= 2.0).sum() > 0.3 * n * 0.0455  # and not far more conservative than stated


def test_each_channel_is_normalized_by_its_own_references():
    rng = np.random.default_rng(7)
    n, n_epochs = 40, 10
    drift = np.exp(0.05 * rng.standard_normal((3, n_epochs)))
    level = rng.uniform(0.05, 1.0, (n, 1))
    parts = []
    for c in range(3):
        error = 0.5 if c == 2 else 1e-3  # no source is bright enough in channel 2
        flux = level * drift[c] + error * rng.standard_normal((n, n_epochs))
        parts.append(curves(flux, error).to_table().assign(channel=c, frequency_hz=1.3e9 + 1e8 * c))
    table = normalised_channels(pd.concat(parts, ignore_index=True), np.arange(30))
    assert sorted(table["channel"].unique()) == [0, 1]
    scatter = table.groupby(["channel", "source_id"])["flux_jy"].std() / table.groupby(["channel", "source_id"])["flux_jy"].mean()
    assert scatter.median() < 0.01
    assert set(table.columns) >= {"source_id", "mosaic_name", "channel", "time_mjd", "frequency_hz", "flux_jy", "flux_err_jy"}
