"""A small Measurement Set in the platform's layout, written directly with casacore: known sky, gains and flags.

The visibilities come from astropy's offset frames and plain exponentials, not from the package's own prediction.
"""

from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from casacore.tables import default_ms, makearrcoldesc, maketabdesc, table
from scipy.special import j1

C = 299_792_458.0
START_S = 61_100.25 * 86400.0
STEP_S = 12.884901888


@dataclass(frozen=True)
class SmallMs:
    path: Path
    sky: pd.DataFrame
    gain: np.ndarray  # (117, Nchan, 2)
    model: np.ndarray  # (Nrows, Nchan): true sky visibilities
    frequency_hz: np.ndarray


def airy(separation_rad, frequency_hz):
    x = np.pi * 4.65 * np.sin(separation_rad) * frequency_hz / C
    return np.where(x < 1e-9, 1.0, (2 * j1(np.maximum(x, 1e-9)) / np.maximum(x, 1e-9)) ** 2)


def source_frame(rows):
    return pd.DataFrame(rows, columns=["name", "ra_deg", "dec_deg", "flux_jy", "spectral_index"])


def write_small_ms(
    path: Path,
    sky: pd.DataFrame,
    *,
    n_ant=10,
    n_chan=8,
    n_time=4,
    center=(128.7, 55.4),
    noise=0.0,
    gain_scale=0.068,
    channel_hz=244140.625 * 4,
    beam=True,
    seed=1,
    active=None,
) -> SmallMs:
    rng = np.random.default_rng(seed)
    active = np.arange(n_ant) + 100 if active is None else np.asarray(active)  # antenna numbers; 102 has the name "103"
    frequency = 1.36e9 + channel_hz * np.arange(n_chan)
    a1, a2 = (active[i] for i in np.triu_indices(active.size))
    order = np.lexsort((a2, a1))
    a1, a2 = a1[order], a2[order]
    n_bl = a1.size
    position = np.zeros((117, 3))
    position[active] = rng.normal(0, 350, (active.size, 3)) * [1, 1, 0.05]
    ra_step = STEP_S * 360 / 86164.0905
    meridian_ra = (center[0] + ra_step * (np.arange(n_time) - (n_time - 1) / 2)) % 360
    times = START_S + STEP_S * np.arange(n_time)

    coords = SkyCoord(sky["ra_deg"].to_numpy() * u.deg, sky["dec_deg"].to_numpy() * u.deg)
    offset = coords.transform_to(SkyCoord(center[0] * u.deg, center[1] * u.deg).skyoffset_frame())
    m = offset.cartesian.z.value
    l_ = offset.cartesian.y.value
    n = offset.cartesian.x.value
    uvw = np.empty((n_time, n_bl, 3))
    for t in range(n_time):  # any rotation will do: the sky's phase depends on these coordinates only
        angle = 2e-4 * STEP_S * t
        rotation = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        uvw[t] = (position[a1] - position[a2]) @ rotation.T
    model = np.zeros((n_time, n_bl, n_chan), dtype=complex)
    for t in range(n_time):
        pointing = SkyCoord(meridian_ra[t] * u.deg, center[1] * u.deg)
        separation = coords.separation(pointing).rad
        for s in range(len(sky)):
            alpha = sky["spectral_index"].iloc[s]
            flux = sky["flux_jy"].iloc[s] * (frequency / 1.4e9) ** (-0.7 if np.isnan(alpha) else alpha)
            if beam:
                flux = flux * airy(separation[s], frequency)
            delay = (uvw[t] @ [l_[s], m[s], n[s] - 1]) / C
            model[t] += flux * np.exp(2j * np.pi * delay[:, None] * frequency)
    shape = np.linspace(-1, 1, n_chan)
    gain = np.ones((117, n_chan, 2), dtype=complex)
    for a in active:
        for p in range(2):
            amplitude = gain_scale * rng.uniform(0.8, 1.25) * (1 + 0.1 * rng.normal() * shape + 0.05 * rng.normal() * shape**2)
            gain[a, :, p] = amplitude * np.exp(1j * (rng.uniform(-np.pi, np.pi) + 0.5 * rng.normal() * shape))
    data = np.empty((n_time, n_bl, n_chan, 2), dtype=np.complex64)
    for p in range(2):
        data[..., p] = model * gain[a1, :, p] * gain[a2, :, p].conj()
    if noise:
        data += (noise * gain_scale**2 * (rng.normal(size=data.shape) + 1j * rng.normal(size=data.shape))).astype(np.complex64)
    _write(path, a1, a2, uvw, data, times, frequency, channel_hz, position, meridian_ra, center)
    return SmallMs(path, sky, gain, model.reshape(-1, n_chan), frequency)


def _write(path, a1, a2, uvw, data, times, frequency, width, position, meridian_ra, center):
    n_time, n_bl, n_chan, n_pol = data.shape
    n_rows = n_time * n_bl
    description = maketabdesc(
        [
            makearrcoldesc("DATA", 0j, ndim=2, shape=[n_chan, n_pol], valuetype="complex"),
            makearrcoldesc("WEIGHT_SPECTRUM", 0.0, ndim=2, shape=[n_chan, n_pol], valuetype="float"),
        ]
    )
    description["UVW"] = {"comment": "", "dataManagerGroup": "", "dataManagerType": "", "maxlen": 0, "ndim": 1, "option": 5,
                          "shape": np.array([3]), "valueType": "double", "keywords": {"QuantumUnits": ["m", "m", "m"],
                          "MEASINFO": {"type": "uvw", "Ref": "J2000"}}}  # fmt: skip
    with default_ms(str(path), description) as ms:
        ms.addrows(n_rows)
        ms.putcol("ANTENNA1", np.tile(a1, n_time).astype(np.int32))
        ms.putcol("ANTENNA2", np.tile(a2, n_time).astype(np.int32))
        ms.putcol("UVW", uvw.reshape(-1, 3))
        ms.putcol("DATA", data.reshape(n_rows, n_chan, n_pol))
        ms.putcol("FLAG", np.zeros((n_rows, n_chan, n_pol), dtype=bool))
        ms.putcol("WEIGHT_SPECTRUM", np.ones((n_rows, n_chan, n_pol), dtype=np.float32))
        ms.putcol("WEIGHT", np.ones((n_rows, n_pol), dtype=np.float32))
        ms.putcol("SIGMA", np.ones((n_rows, n_pol), dtype=np.float32))
        for name in ("TIME", "TIME_CENTROID"):
            ms.putcol(name, np.repeat(times, n_bl))
        for name in ("INTERVAL", "EXPOSURE"):
            ms.putcol(name, np.full(n_rows, STEP_S))
        ms.putcol("SCAN_NUMBER", np.ones(n_rows, dtype=np.int32))
    with table(f"{path}::ANTENNA", readonly=False, ack=False) as t:
        t.addrows(117)
        names = [str(i + 1) for i in range(117)]
        t.putcol("NAME", names)
        t.putcol("STATION", names)
        t.putcol("TYPE", ["GROUND-BASED"] * 117)
        t.putcol("MOUNT", ["ALT-AZ"] * 117)
        t.putcol("POSITION", position + np.array([-2409585.79, -4478197.55, 3838767.46]))
        t.putcol("OFFSET", np.zeros((117, 3)))
        t.putcol("DISH_DIAMETER", np.full(117, 4.65))
    with table(f"{path}::SPECTRAL_WINDOW", readonly=False, ack=False) as t:
        t.addrows(1)
        for name in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            t.putcell(name, 0, np.full(n_chan, width))
        t.putcell("CHAN_FREQ", 0, frequency)
        t.putcell("NUM_CHAN", 0, n_chan)
        t.putcell("REF_FREQUENCY", 0, frequency[0])
        t.putcell("TOTAL_BANDWIDTH", 0, width * n_chan)
        t.putcell("MEAS_FREQ_REF", 0, 5)
        t.putcell("NAME", 0, "band")
    with table(f"{path}::POLARIZATION", readonly=False, ack=False) as t:
        t.addrows(1)
        t.putcell("NUM_CORR", 0, 2)
        t.putcell("CORR_TYPE", 0, np.array([9, 12], dtype=np.int32))
        t.putcell("CORR_PRODUCT", 0, np.array([[0, 0], [1, 1]], dtype=np.int32))
    with table(f"{path}::DATA_DESCRIPTION", readonly=False, ack=False) as t:
        t.addrows(1)
        t.putcell("SPECTRAL_WINDOW_ID", 0, 0)
        t.putcell("POLARIZATION_ID", 0, 0)
    with table(f"{path}::FIELD", readonly=False, ack=False) as t:
        t.addrows(1)
        t.putcell("NAME", 0, "meridian")
        for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            t.putcell(name, 0, np.radians(np.array([center])))
            keywords = t.getcolkeywords(name)
            if "MEASINFO" in keywords:
                t.putcolkeyword(name, "MEASINFO", {"type": "direction", "Ref": "ICRS"})
    with table(f"{path}::OBSERVATION", readonly=False, ack=False) as t:
        t.addrows(1)
        t.putcell("TELESCOPE_NAME", 0, "OVRO_MMA")
        t.putcell("TIME_RANGE", 0, np.array([times[0], times[-1]]))
    with table(f"{path}::FEED", readonly=False, ack=False) as t:
        t.addrows(117)
        t.putcol("ANTENNA_ID", np.arange(117, dtype=np.int32))
        t.putcol("SPECTRAL_WINDOW_ID", np.full(117, -1, dtype=np.int32))
        t.putcol("NUM_RECEPTORS", np.full(117, 2, dtype=np.int32))
        t.putcol("POLARIZATION_TYPE", {"shape": [117, 2], "array": ["X", "Y"] * 117})
        t.putcol("POL_RESPONSE", np.tile(np.eye(2, dtype=np.complex64), (117, 1, 1)))
        t.putcol("RECEPTOR_ANGLE", np.zeros((117, 2)))
        t.putcol("BEAM_OFFSET", np.zeros((117, 2, 2)))
        t.putcol("INTERVAL", np.full(117, 1e30))
    with table(f"{path}::POINTING", readonly=False, ack=False) as t:
        t.addrows(117 * n_time)
        t.putcol("ANTENNA_ID", np.tile(np.arange(117, dtype=np.int32), n_time))
        t.putcol("TIME", np.repeat(times, 117))
        direction = np.radians(np.stack([meridian_ra, np.full(n_time, center[1])], axis=1))
        t.putcol("DIRECTION", np.repeat(direction, 117, axis=0)[:, None, :])
        t.putcol("TARGET", np.repeat(direction, 117, axis=0)[:, None, :])


__all__ = ["SmallMs", "source_frame", "write_small_ms"]
