"""A tile with drifted phases improves; a good one does not change, nor one too faint or under an unknown sky."""

from pathlib import Path

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration import tile_phase
from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.tile_phase import MIN_SIGNIFICANCE, solve_tile_phases
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms

SKY = [("a", 128.4, 55.7, 1.5, -0.7), ("b", 129.9, 55.1, 1.2, np.nan), ("c", 128.9, 54.9, 0.6, -0.7)]
SEFD_JY = 6500.0


def tile_with(tmp_path, phases_deg, *, seed=1, sources=SKY):
    """A tile with thermal noise whose phases have drifted since its tables were solved, and those tables."""
    sky = source_frame(sources)
    sigma = SEFD_JY / np.sqrt(2 * 4 * 244140.625 * 12.884901888)
    tile = write_small_ms(tmp_path / "tile.ms", sky, n_ant=12, n_chan=32, n_time=6, noise=sigma, seed=seed)
    with table(str(tile.path), readonly=False, ack=False) as ms:
        _, integration = np.unique(ms.getcol("TIME"), return_inverse=True)
        turn = np.ones((6, 117), dtype=complex)
        turn[:, 100:112] = np.exp(1j * np.radians(phases_deg))  # of the tile (12,), or of each integration (6, 12)
        turns = turn[integration, ms.getcol("ANTENNA1")] * turn[integration, ms.getcol("ANTENNA2")].conj()
        ms.putcol("DATA", ms.getcol("DATA") * turns[:, None, None])
    gain = tile.gain[None]
    solutions = CalTable(
        Path("truth"), "B Jones", np.array([61_100.25 * 86400.0]), tile.frequency_hz, np.full(32, 4 * 244140.625), np.zeros(32, dtype=int),
        gain, np.zeros(gain.shape, bool), np.ones(gain.shape), tuple(str(i + 1) for i in range(117)), (), None,
    )  # fmt: skip
    return tile, solutions, sky


def test_the_phases_of_a_drifted_tile_are_found_and_improve_it(tmp_path):
    drift = np.random.default_rng(2).normal(0, 25, 12)
    tile, tables, sky = tile_with(tmp_path, drift)
    phases = solve_tile_phases(tile.path, [tables], sky, smearing=False)
    assert phases.kept
    assert phases.significance > MIN_SIGNIFICANCE
    assert phases.n_intervals == 1  # the drift is the same all the time
    assert phases.interval_s == pytest.approx(6 * 12.884901888)
    found = np.degrees(np.angle(phases.solutions.gain[0, 100:112, 0]))
    error = found - drift[:, None]
    assert np.std(error - error.mean(axis=0)) < 5.0  # thermal: 1 / sqrt(sum of |M|^2 / sigma^2) is 3 deg here
    with table(str(tile.path), ack=False) as ms:
        model = tile.model[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")]
    coherent = []
    for name, applied in (("before", [tables]), ("after", [tables, phases.solutions])):
        apply_calibration(tile.path, applied, tmp_path / f"{name}.ms", chan_avg=1)
        with table(str(tmp_path / f"{name}.ms"), ack=False) as ms:
            data = ms.getcol("DATA")
        coherent.append((data * model.conj()[:, :, None]).real.sum() / (2 * (np.abs(model) ** 2).sum()))
    assert coherent[0] < 0.9  # phase noise of 25 deg loses 1 - exp(-0.19) = 17 % of the flux
    assert coherent[1] == pytest.approx(1.0, abs=0.03)


def test_phases_that_turn_within_a_tile_are_followed(tmp_path):
    """By 60 degrees on each side of the middle: one phase for all of it leaves most of that."""
    rate = np.random.default_rng(2).normal(0, 1, 12)
    turning = np.linspace(-60, 60, 6)[:, None] * rate
    tile, tables, sky = tile_with(tmp_path, turning, sources=[(name, ra, dec, 4 * jy, index) for name, ra, dec, jy, index in SKY])
    phases = solve_tile_phases(tile.path, [tables], sky, smearing=False)
    assert phases.kept
    assert phases.n_intervals == 6
    assert phases.figures()["tile_phases_interval_s"] == pytest.approx(12.884901888)
    found = np.degrees(np.angle(phases.solutions.gain[:, 100:112, 0] * np.exp(-1j * np.radians(turning))[..., None]))
    error = found - found.mean(axis=1, keepdims=True)
    assert np.std(error) < 3.0  # thermal: 1.8 deg for a third of a minute, four times the sky of the test above


def test_phases_that_jump_between_parts_of_several_integrations_leave_amplitudes_alone(tmp_path, monkeypatch):
    """Interpolated between the parts, gains would be smaller than 1 there, and fluxes larger."""
    monkeypatch.setattr(tile_phase, "_MOST_PARTS", 3)
    jumps = np.random.default_rng(3).choice([-60.0, 60.0], (3, 12)).repeat(2, axis=0)
    tile, tables, sky = tile_with(tmp_path, jumps, sources=[(name, ra, dec, 4 * jy, index) for name, ra, dec, jy, index in SKY])
    phases = solve_tile_phases(tile.path, [tables], sky, smearing=False)
    assert phases.n_intervals == 3
    apply_calibration(tile.path, [tables, phases.solutions], tmp_path / "after.ms", chan_avg=1)
    with table(str(tile.path), ack=False) as ms:
        model = tile.model[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")]
        _, integration = np.unique(ms.getcol("TIME")[ms.getcol("ANTENNA1") != ms.getcol("ANTENNA2")], return_inverse=True)
    with table(str(tmp_path / "after.ms"), ack=False) as ms:
        product = (ms.getcol("DATA") * model.conj()[:, :, None]).real.sum(axis=(1, 2))
    share = np.bincount(integration, product) / (2 * np.bincount(integration, (np.abs(model) ** 2).sum(axis=1)))
    assert share == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_good_tile_does_not_change(tmp_path, seed):
    tile, tables, sky = tile_with(tmp_path, np.zeros(12), seed=seed)
    phases = solve_tile_phases(tile.path, [tables], sky, smearing=False)
    assert not phases.kept
    assert phases.solutions is None
    assert phases.significance < 2.0
    assert 0 < phases.rms_deg < 10.0  # the fitted noise does not improve the other half
    assert phases.outcome == "not kept: they do not improve the other half of the band"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_bright_source_that_the_catalog_lacks_turns_no_phases(tmp_path, seed):
    """Its fringes turn phases, differently in the halves of the band. Neighboring channels agree: 17 to 40 sigma."""
    tile, tables, sky = tile_with(tmp_path, np.zeros(12), seed=seed, sources=[*SKY, ("transient", 129.5, 55.5, 3.0, -0.7)])
    known = sky[sky["name"] != "transient"]
    phases = solve_tile_phases(tile.path, [tables], known, smearing=False)
    assert not phases.kept
    assert phases.outcome == "not kept: they do not improve the other half of the band"


def test_a_source_twice_as_bright_as_cataloged_keeps_its_flux_in_a_drifted_tile(tmp_path):
    drift = np.random.default_rng(4).normal(0, 25, 12)
    tile, tables, sky = tile_with(tmp_path, drift)
    wrong = sky.assign(flux_jy=sky["flux_jy"] * np.where(sky["name"] == "c", 0.5, 1.0))
    found = []
    for known in (sky, wrong):
        phases = solve_tile_phases(tile.path, [tables], known, smearing=False)
        assert phases.kept
        found.append(np.degrees(np.angle(phases.solutions.gain[0, 100:112, 0])))
    assert np.std(found[1] - found[0]) < 3.0  # the thermal error of a phase


def test_a_faint_tile_keeps_the_phases_of_its_tables_and_says_so(tmp_path):
    tile, tables, sky = tile_with(tmp_path, np.random.default_rng(2).normal(0, 25, 12), sources=[("a", 128.4, 55.7, 0.1, -0.7)])
    phases = solve_tile_phases(tile.path, [tables], sky, smearing=False)
    assert not phases.kept
    assert phases.figures() == {"tile_phases": "not solved: too faint, no phase would be known within 10 degrees"}
    nothing = solve_tile_phases(tile.path, [tables], sky.assign(flux_jy=0.001), smearing=False)
    assert nothing.figures() == {"tile_phases": "not solved: no known source is bright enough"}
