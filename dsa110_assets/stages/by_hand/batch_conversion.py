"""Conversion by hand: observations of a time window, or around a calibrator's transits, from one directory to another.

It needs neither the registry nor Dagster, except for the platform's own products: `convert_through_queue` makes and
registers these.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlalchemy import select

from dsa110_assets import products, publication, raw_checksums, staging
from dsa110_assets.catalogs import calibrators
from dsa110_assets.catalogs.calibrators import Calibrator
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import BEAM_CUTOFF, airy_power_beam
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import (
    InvalidRawFileError,
    NoCalibratorError,
    NonRetriableError,
    ProductVerificationError,
    StorageError,
    UnknownGroupError,
)
from dsa110_assets.files import is_special, printable
from dsa110_assets.ingest.grouping import Member, judge, subbands_by_start
from dsa110_assets.products import CALIBRATORS_FILE, NAME_JITTER_S, ProductPaths
from dsa110_assets.rawfile import RawHeader, any_site, pointing_of, raw_names, validate_raw_file
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState, IngestGroup, SubbandFile
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd, group_id_of, mjd_to_datetime


@dataclass(frozen=True, eq=False)
class Observation:
    """Raw files that start at the same time.

    ``files``: accepted file of each subband. ``header``: of one of them. ``start_mjd``, ``end_mjd``: beginning of the
    first integration, end of the last, UTC.
    """

    group_id: str
    files: Mapping[int, Path]
    header: RawHeader
    start_mjd: float
    end_mjd: float


@dataclass(frozen=True)
class RejectedFile:
    """A raw file that belongs to no observation, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Transit:
    """A calibrator's transit: UTC MJD, and the power beam of this pointing in its direction."""

    calibrator: Calibrator
    mjd: float
    beam: float


@dataclass(frozen=True, eq=False)
class Step:
    """What to do with one observation.

    ``action``: ``convert`` (no product exists), ``replace`` (one exists), ``skip`` (a complete product of the same
    files exists) or ``leave`` (too few subbands). ``calibrator``: field name, None for ``meridian``. ``transit``: of
    the requested calibrator, if it falls into this observation.
    """

    observation: Observation
    destination: Path
    action: str
    reason: str
    calibrator: str | None
    transit: Transit | None = None


def observations_between(
    directory: Path, start_mjd: float, end_mjd: float, *, expected_subbands: int = 16
) -> tuple[list[Observation], list[RejectedFile]]:
    """Observations that start in ``[start_mjd, end_mjd)``, in order of time, and rejected files near the window.

    Files are grouped by the start time in their headers (pitfall 25); the names only limit which files are opened. An
    observation has one file for each subband, the first by name. A file with another subband's frequencies is rejected
    (pitfall 26). Files whose starts round to the same second are judged by the queue's rule (`ingest.grouping`).

    Raises:
        ConfigurationError: the directory cannot be listed.
    """
    slack = NAME_JITTER_S / 86_400
    found: dict[str, list[RawHeader]] = defaultdict(list)
    rejected: list[RejectedFile] = []
    for path in _raw_names(directory, start_mjd - slack, end_mjd + slack):
        try:
            header = validate_raw_file(path)
        except InvalidRawFileError as error:
            rejected.append(RejectedFile(path, error.cause))
            continue
        if header.subband >= expected_subbands:
            rejected.append(RejectedFile(path, f"sb{header.subband:02d} lies outside a band of {expected_subbands} subbands"))
            continue
        half = 0.5 * header.integration_s / 86_400
        if start_mjd <= header.start_mjd - half < end_mjd:
            found[group_id_of(header.start_jd)].append(header)
    observations: list[Observation] = []
    for group_id, headers in sorted(found.items()):
        members = [Member(str(header.path), header.subband, header.start_mjd) for header in headers]
        support = subbands_by_start(members)
        verdicts = judge(group_id, max(support, key=lambda start: len(support[start])), members)
        mine = [header for header in headers if verdicts[str(header.path)][0] is FileState.ACCEPTED]
        files = {header.subband: header.path for header in mine}
        rejected += [RejectedFile(header.path, reason) for header in headers if (reason := verdicts[str(header.path)][1]) is not None]
        longest = max(mine, key=lambda header: header.n_times)
        half = 0.5 * longest.integration_s / 86_400
        last_mjd = float(longest.times_jd[-1]) - JD_MINUS_MJD
        observations.append(Observation(group_id, dict(sorted(files.items())), longest, longest.start_mjd - half, last_mjd + half))
    return observations, rejected


def observations_around_transits(
    directory: Path, star: Calibrator, start_mjd: float, end_mjd: float, *, window_minutes: float = 0.0, expected_subbands: int = 16
) -> tuple[list[tuple[Observation, Transit | None]], list[Transit], list[RejectedFile]]:
    """Observations around a calibrator's transits in a time window.

    Args:
        directory: of raw files.
        star: the calibrator.
        start_mjd, end_mjd: time window of the transits.
        window_minutes: length of an interval around each transit; observations that overlap it are chosen. 0: the
            observation in which the transit falls.
        expected_subbands: of a complete observation.

    Returns:
        The observations, each with the transit that falls into it; all transits; rejected files.

    Raises:
        NoCalibratorError: no transit in the window, no observation at a transit, or another pointing.
        ConfigurationError: the directory cannot be listed.
    """
    site = any_site(directory)
    half = 0.5 * window_minutes / 1440
    tile = 600.0 / 86_400  # longer than any observation
    chosen: dict[str, tuple[Observation, Transit | None]] = {}
    rejected: list[RejectedFile] = []
    transits: list[Transit] = []
    elsewhere: list[str] = []
    first = calibrators.transit_mjd(star.ra_deg, star.dec_deg, start_mjd, site)
    first += SIDEREAL_DAY_DAYS * (first < start_mjd)
    for near in np.arange(first, end_mjd, SIDEREAL_DAY_DAYS):
        mjd = calibrators.transit_mjd(star.ra_deg, star.dec_deg, float(near), site)
        observations, rejected_here = observations_between(
            directory, mjd - half - tile, mjd + half + tile, expected_subbands=expected_subbands
        )
        rejected += rejected_here
        transit: Transit | None = None
        for one in observations:
            if one.end_mjd <= mjd - half or one.start_mjd > mjd + half:
                continue
            beam = _beam_at_transit(star, one.header)
            if beam < BEAM_CUTOFF:
                pointing = np.degrees(one.header.pointing_dec_rad)
                elsewhere.append(f"{one.group_id} pointed at declination {pointing:.2f}")
                continue
            holds_it = one.start_mjd <= mjd < one.end_mjd
            here = Transit(star, mjd, beam)
            transit = here if transit is None or holds_it else transit
            chosen[one.group_id] = (one, here if holds_it else None)
        transits.append(transit or Transit(star, mjd, float("nan")))
    if not chosen:
        times = ", ".join(_utc(one.mjd) for one in transits) or "none in this window"
        why = f"; {', '.join(elsewhere)}, and it is at {star.dec_deg:.2f}" if elsewhere else ""
        raise NoCalibratorError(
            star.name,
            f"no observation in {directory} contains its transit (transits: {times}{why})",
            "give another time window, a wider --window-minutes, or another calibrator",
        )
    return [chosen[name] for name in sorted(chosen)], transits, rejected


def plan(
    chosen: Sequence[tuple[Observation, Transit | None]],
    output: Path,
    config: PipelineConfig,
    *,
    catalog: Sequence[Calibrator],
    rename_fields: bool = True,
    skip_existing: bool = False,
) -> Iterator[Step]:
    """Decide what to do with each observation. ``skip_existing`` reads existing products completely."""
    paths = ProductPaths(output.absolute(), output.absolute(), output.absolute())
    for one, transit in chosen:
        name = None
        if rename_fields and transit is not None:
            name = transit.calibrator.name
        elif rename_fields:
            usable = calibrators.in_tile(catalog, pointing_of(one.header))
            name = usable[0].name if usable else None
        step = Step(one, paths.measurement_set(one.group_id), "convert", "", name, transit)
        missing = [n for n in range(config.expected_subbands) if n not in one.files]
        note = f"{len(missing)} subbands missing" if missing else ""
        if len(one.files) < config.min_subbands:
            reason = f"{len(one.files)} of {config.expected_subbands} subbands, PIPELINE_MIN_SUBBANDS is {config.min_subbands}"
            yield replace(step, action="leave", reason=reason)
        elif not step.destination.exists():
            yield replace(step, reason=note)
        elif not skip_existing:
            yield replace(step, action="replace", reason=note or "a product exists")
        else:
            reason = _reason_to_replace(step)
            if reason is None:
                yield replace(step, action="skip", reason="complete and of the same files")
            else:
                yield replace(step, action="replace", reason=reason)


def convert(step: Step, config: PipelineConfig, *, threads: int = 0) -> dict[str, object]:
    """Convert one observation, verify the result and publish it.

    Returns:
        Path, seconds, flagged fraction, missing subbands, size.

    Raises:
        PipelineError: see `conversion.convert_observation`; no incomplete product remains.
    """
    from dsa110_assets.conversion import convert_observation, verify_ms
    from dsa110_assets.flagging.picture import plot_flags
    from dsa110_assets.registry.provenance import release
    from dsa110_assets.stages.provenance.recipes import recipe_of
    from dsa110_assets.stages.table import MEASUREMENT_SET

    recipe = recipe_of(MEASUREMENT_SET.name, config)
    staging.keep_journal_in(ProductPaths.of(config).staging_journal)
    with publication.publish(step.destination) as staged:
        report = convert_observation(
            step.observation.files,
            staged,
            expected_subbands=config.expected_subbands,
            flag_rfi=config.flag_rfi,
            field_name=step.calibrator,
            telescope_name=config.telescope_name,
            threads=threads,
            checksums=raw_checksums.from_sidecars(step.observation.files) if config.raw_checksums == "correlator" else None,
            history=[
                f"DSACODE = {release()} {recipe.code_version}",
                f"DSACONF = {recipe.config_hash}",
                f"observation = {step.observation.group_id}",
                "converted by hand",
            ],
        )
        verify_ms(staged, report)
        plot_flags(report.flags, staged / products.FLAG_PICTURE, title=step.observation.group_id)
    return {
        "path": str(step.destination),
        "seconds": round(sum(report.seconds.values()), 2),
        "flagged_fraction": report.flags.fraction,
        "missing_subbands": list(report.missing_subbands),
        "size_bytes": report.ms_bytes,
    }


def convert_through_queue(step: Step, config: PipelineConfig) -> dict[str, object]:
    """Convert an observation in the platform's own directories: lease it from the queue and register the product.

    Raises:
        GroupBusyError: the running platform works on this observation.
        UnknownGroupError: the queue rejected the observation's files.
    """
    from dsa110_assets.ingest.scan import scan_directory
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.products.tile import make_measurement_set
    from dsa110_assets.stages.queue.attempts import now
    from dsa110_assets.stages.queue.work import TileRun

    platform = Platform.open(config)
    if (missing := calibrator_catalog_missing(config)) is not None:  # before the lease: it is no fault of the observation
        raise missing
    files = list(step.observation.files.values())
    scan_directory(platform.database, config.input_dir, config, now(), hints=files)
    _refuse_unbooked(platform.database, step.observation.group_id, files)
    result = make_measurement_set(platform, TileRun(step.observation.group_id, run_id=f"by-hand-{uuid.uuid4().hex[:12]}"))
    return {
        "path": str(result.paths["path"]),
        "seconds": result.figures["duration_s"],
        "flagged_fraction": result.figures["flagged_fraction"],
        "missing_subbands": [n for n in range(config.expected_subbands) if n not in step.observation.files],
        "size_bytes": publication.size_bytes(result.paths["path"]),
    }


def _refuse_unbooked(database: Database, group_id: str, files: Sequence[Path]) -> None:
    """Name the reason for which the queue refused the files of an observation that it does not have."""
    with database.session() as session:
        if session.get(IngestGroup, group_id) is not None:
            return
        refused = session.scalars(
            select(SubbandFile.reason).where(SubbandFile.path.in_([str(path) for path in files]), SubbandFile.reason.is_not(None))
        ).first()
    raise UnknownGroupError(
        group_id,
        f"its files were refused: {refused}" if refused else "the queue does not have it",
        "correct the cause, or convert into another OUT: that needs no queue",
    )


def calibrator_catalog_missing(config: PipelineConfig) -> NonRetriableError | None:
    """Why the platform's own products cannot be made yet; None if the calibrator catalog is there."""
    try:
        calibrators.load(ProductPaths.of(config).catalogs_dir / CALIBRATORS_FILE)
    except NonRetriableError as error:
        return error
    return None


def is_platforms_own(output: Path, config: PipelineConfig) -> bool:
    """Whether ``output`` is the directory of the platform's Measurement Sets."""
    return output.resolve() == config.output_dir.resolve()


def sweep(config: PipelineConfig) -> list[Path]:
    """Remove what killed conversions left in their output directories."""
    return staging.sweep(ProductPaths.of(config).staging_journal)


def known_calibrators(config: PipelineConfig) -> list[Calibrator]:
    """Read the calibrator catalog, or the manual if only that is configured.

    Raises:
        NonRetriableError: neither exists.
    """
    path = ProductPaths.of(config).catalogs_dir / CALIBRATORS_FILE
    if not path.is_file() and config.vla_calibrators_file is not None and config.vla_calibrators_file.is_file():
        return calibrators.parse_manual(config.vla_calibrators_file.read_text(encoding="ascii", errors="replace"))
    return calibrators.load(path)


def name_span(directory: Path) -> tuple[float, float]:
    """Time window of all file names, MJD, with a margin for their inaccuracy.

    Raises:
        NonRetriableError: the directory has no raw files.
        ConfigurationError: the directory cannot be listed.
    """
    stamps = [datetime_to_mjd(stamp) for _, stamp in raw_names(directory)]
    if not stamps:
        raise NonRetriableError(directory, "has no raw subband files (YYYY-MM-DDTHH:MM:SS_sbNN.hdf5)", "give the correlator's directory")
    slack = NAME_JITTER_S / 86_400
    return min(stamps) - slack, max(stamps) + slack


def why_nothing(directory: Path) -> str:
    """Why no observation was chosen: what the names in the directory say. Times in names choose the files to open."""
    stamps = sorted(stamp for _, stamp in raw_names(directory))
    if not stamps:
        return f"no observation: {printable(directory)} has no raw subband files (YYYY-MM-DDTHH:MM:SS_sbNN.hdf5)"
    return (
        f"no observation in this window: the {len(stamps)} raw files in {printable(directory)} have names of "
        f"{stamps[0]:%Y-%m-%dT%H:%M:%S} to {stamps[-1]:%Y-%m-%dT%H:%M:%S}"
    )


def _reason_to_replace(step: Step) -> str | None:
    """Why the existing product must be replaced; None if it is complete and made of the same raw files."""
    from dsa110_assets.conversion import inputs_of, verify_ms

    try:
        verify_ms(step.destination, thorough=True)
        made_of = inputs_of(step.destination)
    except ProductVerificationError as error:
        return f"the existing product is not complete: {error.cause}"
    expected = [path.name for path in step.observation.files.values()]
    if made_of != expected:
        return (
            f"the existing product was made of {len(made_of)} other files" if made_of else "the existing product has no list of its files"
        )
    return None


def _raw_names(directory: Path, first_mjd: float, last_mjd: float) -> Iterator[Path]:
    for path, stamp in raw_names(directory):
        if first_mjd <= datetime_to_mjd(stamp) <= last_mjd and not is_special(path):
            yield path


def _beam_at_transit(star: Calibrator, header: RawHeader) -> float:
    """Power beam at 1.4 GHz in the direction of a source during its transit, in this pointing."""
    declination = float(np.median(pointing_of(header).dec_deg))
    ra = np.radians(star.ra_deg)
    miss = angular_separation_rad(ra, np.radians(star.dec_deg), ra, np.radians(declination))
    return float(airy_power_beam(miss, calibrators.REFERENCE_FREQUENCY_HZ))


def _utc(mjd: float) -> str:
    return f"{mjd_to_datetime(mjd):%Y-%m-%dT%H:%M:%S}"


def affects_all_observations(error: Exception) -> bool:
    """Whether the next observation will fail in the same way, because of the disk."""
    return isinstance(error, StorageError)
