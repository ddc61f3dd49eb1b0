"""Conversion of the raw subband files of one observation to one flagged Measurement Set.

Runs the reading (`tile`), the flagging (`dsa110_assets.flagging`) and the writing (`measurement_set`).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dsa110_assets import __version__
from dsa110_assets.common.figures import Details, Figures
from dsa110_assets.common.instrument import DISH_DIAMETER_M
from dsa110_assets.conversion.measurement_set import write_measurement_set
from dsa110_assets.conversion.tile import read_tile
from dsa110_assets.flagging import FlagReport, flag_visibilities
from dsa110_assets.times import JD_MINUS_MJD


@dataclass(frozen=True)
class ConversionReport:
    """Result of a conversion.

    ``n_rows`` of the main table, ``n_times``, ``n_baselines``, ``n_channels``. ``missing_subbands``: flagged
    throughout. ``phase_ra_deg``/``phase_dec_deg``: ICRS phase center. ``pointing_dec_deg``: apparent declination of the
    dishes. ``start_mjd``/``mid_mjd``/``end_mjd``: UTC of the beginning of the first integration, the middle, the end of
    the last. ``flags``: what was flagged and why. ``seconds``: wall-clock time per step. ``raw_bytes``/``ms_bytes``:
    sizes. ``notes``: unusual but acceptable things in the raw files. ``n_verified``: raw files whose checksum was
    compared.
    """

    path: Path
    n_rows: int
    n_times: int
    n_baselines: int
    n_channels: int
    missing_subbands: tuple[int, ...]
    phase_ra_deg: float
    phase_dec_deg: float
    pointing_dec_deg: float
    start_mjd: float
    mid_mjd: float
    end_mjd: float
    flags: FlagReport
    raw_bytes: int
    ms_bytes: int
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    n_verified: int = 0

    def figures(self) -> Figures:
        """Named figures of the Measurement Set, units in the names."""
        return {
            "missing_subbands": ", ".join(f"sb{n:02d}" for n in self.missing_subbands) or "none",
            "channels": self.n_channels,
            "rows": self.n_rows,
            "flagged_fraction": self.flags.fraction,
            "dead_antennas": ", ".join(self.flags.dead_antennas) or "none",
            "declination_deg": self.pointing_dec_deg,
            "phase_ra_deg": self.phase_ra_deg,
            "phase_dec_deg": self.phase_dec_deg,
            "checksums_verified": self.n_verified,
            "notes": "; ".join(self.notes) or "none",
        }

    def details(self) -> Details:
        """Tables of what was flagged, and of the time of each step."""
        return {
            **self.flags.details(),
            "steps": [{"step": step, "seconds": seconds} for step, seconds in self.seconds.items()],
        }


def convert_observation(
    files: Mapping[int, Path],
    out: Path,
    *,
    expected_subbands: int = 16,
    flag_rfi: bool = True,
    bad_antennas: Collection[str] = (),
    field_name: str | None = None,
    telescope_name: str = "OVRO_MMA",
    history: Sequence[str] = (),
    threads: int = 0,
    checksums: Mapping[int, str] | None = None,
) -> ConversionReport:
    """Convert the raw files of one observation to a Measurement Set with one ascending spectral window and one field.

    Args:
        files: raw file of each present subband; only ever read.
        out: path of the Measurement Set, which must not exist (the staging path of a publication).
        expected_subbands: subbands of the full band; absent ones are written as flagged zeros.
        flag_rfi: search for interference and outliers; the checks of values and dead receptors always run.
        bad_antennas: names of antennas that are flagged throughout; others than the array's are left out.
        field_name: name of the calibrator that transits in the tile; None names the field ``meridian``.
        telescope_name: OBSERVATION::TELESCOPE_NAME, a name that CASA knows (pitfall 6).
        history: provenance lines for the HISTORY table.
        threads: of the flagger; 0 means one per core.
        checksums: SHA-256 of the file of each subband whose bytes are to be compared.

    Raises:
        ChecksumError: files do not have the bytes of their checksums.
        InvalidRawFileError: a file is damaged or belongs to another observation.
        IncompleteGroupError: no file, or a subband outside the band.
        StorageError: the disk is full, read-only or failing.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "read"):
        tile = read_tile(files, expected_subbands, np.zeros, checksums=checksums)
    header = tile.header
    with _timed(seconds, "flag"):
        flags = flag_visibilities(
            tile.vis,
            tile.reasons,
            ant_1=tile.ant_1,
            ant_2=tile.ant_2,
            antenna_names=[header.antenna_names[i] for i in np.argsort(header.antenna_numbers)],
            baseline_length_m=np.linalg.norm(tile.uvw_m[tile.uvw_m.shape[0] // 2], axis=1),
            freq_hz=tile.freq_hz,
            integration_s=header.integration_s,
            weights=tile.weights,
            bad_antennas=bad_antennas,
            rfi=flag_rfi,
            threads=threads,
        )
    lines = [
        f"dsa110_assets {__version__}: converted {len(files)} of {expected_subbands} subbands, missing {list(tile.missing_subbands)}",
        *(f"input sb{subband:02d} {path.name}" for subband, path in sorted(files.items())),
        *history,
    ]
    with _timed(seconds, "write"):
        ms_bytes = write_measurement_set(
            tile, out, field_name=field_name, telescope_name=telescope_name, history=lines, dish_diameter_m=DISH_DIAMETER_M
        )
    half_day = 0.5 * header.integration_s / 86400.0
    first, last = float(header.times_jd[0]) - JD_MINUS_MJD, float(header.times_jd[-1]) - JD_MINUS_MJD
    return ConversionReport(
        path=out,
        n_rows=header.n_times * header.n_bls,
        n_times=header.n_times,
        n_baselines=header.n_bls,
        n_channels=tile.freq_hz.size,
        missing_subbands=tile.missing_subbands,
        phase_ra_deg=float(np.degrees(tile.geometry.phase_ra_rad)),
        phase_dec_deg=float(np.degrees(tile.geometry.phase_dec_rad)),
        pointing_dec_deg=float(np.degrees(header.pointing_dec_rad)),
        start_mjd=first - half_day,
        mid_mjd=0.5 * (first + last),
        end_mjd=last + half_day,
        flags=flags,
        raw_bytes=sum(path.stat().st_size for path in files.values()),
        ms_bytes=ms_bytes,
        seconds=seconds,
        notes=tile.notes,
        n_verified=len(checksums or {}),
    )


@contextmanager
def _timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[step] = time.perf_counter() - started
