"""Names and paths of all products, built and parsed in one place, and their atomic publication.

An observation is called by its start time, ``YYYY-MM-DDTHH:MM:SS`` (UTC; the header's first integration, pitfall 25), and
so is everything made from it. A product is written under ``.staging`` beside its destination, verified, flushed, renamed
into place; whoever has the old one open keeps it. What does not belong here: registering a product (`registry`).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import NonRetriableError, PipelineError, PublishError, StorageError

MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
JD_MINUS_MJD = 2_400_000.5
SLOT_MINUTES = 5
STAGING = ".staging"
_GROUP_ID = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})")
_RAW_NAME = re.compile(r"(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_sb(?P<subband>\d{2})\.hdf5")
IMAGE_SUFFIXES = ("dirty", "psf", "model", "residual", "image", "image-pb", "pb", "weight", "noise")
CHANNEL_SUFFIXES = ("image", "image-pb", "pb", "weight")
"""Of each channel of a tile that was imaged in channels; of a mosaic's channels: those of the mosaic."""
SPECTRAL_SUFFIXES = ("alpha", "alpha-error")
"""Of such a tile: spectral index and its error."""
_IMAGE_NAME = re.compile(
    r"(?P<name>.+?)(?:-ch(?P<channel>\d{2}))?-(?P<suffix>alpha-error|alpha|image-pb|image|dirty|psf|model|residual|pb|weight|noise|coverage)\.fits"
)
FLAG_PICTURE = "flags.png"
"""Inside a Measurement Set: picture of what was flagged (programs that read the set ignore it)."""


# --- times and identifiers ------------------------------------------------------------------------------------------
def mjd_to_datetime(mjd: float) -> datetime:
    """UTC datetime of a UTC MJD, to the microsecond."""
    return MJD_EPOCH + timedelta(days=mjd)


def datetime_to_mjd(when: datetime) -> float:
    """UTC MJD of an aware datetime."""
    return (when - MJD_EPOCH) / timedelta(days=1)


def group_id_of(start_jd: float) -> str:
    """Identifier of the observation whose first integration is centred on ``start_jd`` (UTC): rounded to the second."""
    return (mjd_to_datetime(start_jd - JD_MINUS_MJD) + timedelta(seconds=0.5)).strftime("%Y-%m-%dT%H:%M:%S")


def group_time(group_id: str) -> datetime:
    """Start of an observation from its identifier, UTC.

    Raises:
        NonRetriableError: when it is not an identifier.
    """
    if not _GROUP_ID.fullmatch(group_id):
        raise NonRetriableError(group_id, "not an observation's identifier (YYYY-MM-DDTHH:MM:SS)", "list them with `dsa110 ingest status`")
    return datetime.strptime(group_id, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


@dataclass(frozen=True)
class RawName:
    """What a raw file's name says. ``stamp`` is the node's wall clock at open: a hint only. ``subband`` is 0..99."""

    stamp: datetime
    subband: int


def parse_raw_name(name: str) -> RawName | None:
    """Parse ``YYYY-MM-DDTHH:MM:SS_sbNN.hdf5``; None for every other name, files being written included."""
    match = _RAW_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        stamp = datetime.strptime(match["stamp"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return RawName(stamp, int(match["subband"]))


def tile_partition(group_id: str) -> tuple[str, str]:
    """(date, slot) of an observation: ``("2026-03-01", "05:10")``, the 5-minute slot that its start falls into."""
    start = group_time(group_id)
    return start.strftime("%Y-%m-%d"), f"{start.hour:02d}:{start.minute - start.minute % SLOT_MINUTES:02d}"


def hour_partition(group_id: str) -> tuple[str, str]:
    """(date, hour) of an observation: ``("2026-03-01", "05")``."""
    start = group_time(group_id)
    return start.strftime("%Y-%m-%d"), f"{start.hour:02d}"


def slot_window(night: str, slot: str) -> tuple[datetime, datetime]:
    """Half-open UTC window of a 5-minute slot."""
    start = datetime.strptime(f"{night} {slot}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
    return start, start + timedelta(minutes=SLOT_MINUTES)


def hour_window(night: str, hour: str) -> tuple[datetime, datetime]:
    """Half-open UTC window of an hour."""
    start = datetime.strptime(f"{night} {hour}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    return start, start + timedelta(hours=1)


# --- paths ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ProductPaths:
    """Where every product lives; built from the configuration's directories only."""

    output_dir: Path
    scratch_dir: Path
    state_dir: Path

    @classmethod
    def of(cls, config: PipelineConfig) -> ProductPaths:
        """Paths for a configuration, made absolute."""
        return cls(config.output_dir.absolute(), config.scratch_dir.absolute(), config.state_dir.absolute())

    def measurement_set(self, group_id: str) -> Path:
        """Flagged, uncalibrated Measurement Set of a tile."""
        return self.output_dir / group_id[:10] / f"{group_id}.ms"

    def calibrated_ms(self, group_id: str) -> Path:
        """Calibrated, frequency-averaged Measurement Set of a tile (DATA holds calibrated data in Jy)."""
        return self.output_dir / group_id[:10] / f"{group_id}.cal.ms"

    def calibration_dir(self, group_id: str) -> Path:
        """Directory of the tables solved on the calibrator in this observation (``bandpass.cal``, ``gain.cal``, plots)."""
        return self.scratch_dir / "caltables" / group_id[:10] / group_id

    def image_dir(self, group_id: str) -> Path:
        """Directory of a tile's images, ``<group>-<suffix>.fits`` with the suffixes of `IMAGE_SUFFIXES`, and previews."""
        return self.scratch_dir / "images" / group_id[:10] / group_id

    def mosaic_dir(self, name: str) -> Path:
        """Directory of a mosaic: ``<name>-image.fits``, ``-noise``, ``-weight``, ``-coverage``, preview."""
        return self.scratch_dir / "mosaics" / name

    def mosaic_plan(self, name: str) -> Path:
        """Which tiles a mosaic on demand would be made from (JSON)."""
        return self.scratch_dir / "mosaics" / "plans" / f"{name}.json"

    def injection_dir(self, night: str) -> Path:
        """What became of a night's artificial sources: ``recovery.parquet``, ``completeness.csv``, ``recovery.png``."""
        return self.scratch_dir / "injections" / night

    def candidate_dir(self, night: str, source_id: int) -> Path:
        """Pictures and tables of an ESE candidate as of a night: ``light_curve.png``, ``cutouts.png``, ``neighbours.csv``."""
        return self.scratch_dir / "candidates" / night / str(source_id)

    @property
    def catalogs_dir(self) -> Path:
        """Read-only reference catalogues."""
        return self.state_dir / "catalogs"

    def staging_roots(self) -> tuple[Path, ...]:
        """Every directory in which `publish` may have left a ``.staging`` folder."""
        roots = (
            self.output_dir,
            self.scratch_dir / "caltables",
            self.scratch_dir / "images",
            self.scratch_dir / "mosaics",
            self.scratch_dir / "injections",
            self.scratch_dir / "candidates",
            self.catalogs_dir,
        )
        return tuple(root for root in roots if root.is_dir())


def image_path(directory: Path, name: str, suffix: str) -> Path:
    """FITS file of one image product, e.g. ``image_path(d, group, "image-pb")``."""
    return directory / f"{name}-{suffix}.fits"


def channel_name(name: str, channel: int) -> str:
    """First part of the file names of one channel: ``<name>-ch00`` is the lowest frequency."""
    return f"{name}-ch{channel:02d}"


@dataclass(frozen=True)
class ImageName:
    """What an image file's name says: ``name`` of the tile or mosaic, ``channel`` (None: the whole band), ``suffix``."""

    name: str
    channel: int | None
    suffix: str


def parse_image_name(file_name: str) -> ImageName | None:
    """The inverse of `image_path` and `channel_name`; None for every other name.

    >>> parse_image_name("2026-03-01T05:10:00-ch03-image-pb.fits")
    ImageName(name='2026-03-01T05:10:00', channel=3, suffix='image-pb')
    >>> parse_image_name("hourly_2026-03-01T05-noise.fits")
    ImageName(name='hourly_2026-03-01T05', channel=None, suffix='noise')
    """
    match = _IMAGE_NAME.fullmatch(file_name)
    if match is None:
        return None
    return ImageName(match["name"], None if match["channel"] is None else int(match["channel"]), match["suffix"])


def channels_of(directory: Path, name: str) -> dict[int, Path]:
    """Channel images of a tile (``-image-pb``) or of a mosaic (``-image``), corrected for the primary beam, by channel; empty where there are none."""
    found: dict[int, Path] = {}
    for path in directory.glob("*-ch[0-9][0-9]-image*.fits"):
        parsed = parse_image_name(path.name)
        if parsed is not None and parsed.name == name and parsed.channel is not None:
            corrected = image_path(directory, channel_name(name, parsed.channel), "image-pb")
            found[parsed.channel] = corrected if corrected.is_file() else path
    return dict(sorted(found.items()))


def hourly_mosaic_name(night: str, hour: str) -> str:
    """Name of an hour's mosaic: ``hourly_2026-03-01T05``."""
    return f"hourly_{night}T{hour}"


def nightly_mosaic_name(night: str) -> str:
    """Name of a night's mosaic: ``nightly_2026-03-01``."""
    return f"nightly_{night}"


def nights_around(night: str, days: int) -> list[str]:
    """Nights at most ``days`` away, nearest first, earlier before later: the borrowing ladder."""
    centre = date.fromisoformat(night)
    offsets = [0] + [sign * step for step in range(1, days + 1) for sign in (-1, 1)]
    return [(centre + timedelta(days=o)).isoformat() for o in offsets]


# --- publication ----------------------------------------------------------------------------------------------------
SPARE_BYTES = 1 << 20
"""A disk with less than this is full: no product fits into it."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def publish(destination: Path) -> Iterator[Path]:
    """Give a staging path to write to; on a clean exit move it to ``destination`` in one rename.

    The caller writes a file or a directory at the path that is yielded and verifies it before leaving the block. An
    exception removes the staged product and leaves the old one. A crash leaves the old or the new one, and a staging
    folder that `sweep_staging` removes.

    Raises:
        PublishError: nothing was written, or the rename failed.
        StorageError: the block failed because the disk is full, read-only or failing, whatever its engine made of it.
    """
    parent = destination.parent
    staging = parent / STAGING / uuid.uuid4().hex
    staged = staging / destination.name
    try:
        staging.mkdir(parents=True)
        yield staged
        if not staged.exists():
            raise PublishError(destination, "the stage ended without writing its product", "read the run's log; make the product again")
        flush_to_disk(staged)
        try:
            _move_into_place(staged, destination)
        except OSError as error:
            raise PublishError(
                destination, f"cannot be moved into place ({error.strerror})", "check space and permissions of its directory"
            ) from error
    except BaseException as error:
        trouble = None if isinstance(error, PipelineError) else storage_trouble(destination, error)
        shutil.rmtree(staging, ignore_errors=True)
        if trouble is not None:
            raise trouble from error
        raise
    if staged.exists():  # the product that was replaced; readers that hold it keep their open files
        shutil.rmtree(staging, ignore_errors=True)
    else:
        staging.rmdir()


def storage_trouble(path: Path, error: BaseException) -> StorageError | None:
    """What is wrong with the disk of ``path``, if that explains an error; None when it does not.

    Engines report a full disk as anything: the free space tells more than their words.
    """
    free = free_bytes(path)
    code = error.errno if isinstance(error, OSError) else None
    if code in (errno.ENOSPC, errno.EDQUOT) or free < SPARE_BYTES:
        cause = "the disk is full"
    elif code == errno.EROFS:
        cause = "the disk is read-only"
    elif code == errno.EIO:
        cause = "the disk fails"
    else:
        return None
    return StorageError(path, f"{cause} ({error}; {free / 1e9:.2f} GB free)", "free space or repair the disk, then retry")


def free_bytes(path: Path) -> int:
    """Free space of the file system on which a path is, or would be."""
    for place in (path, *path.parents):
        if place.exists():
            return shutil.disk_usage(place).free
    return 0


def _move_into_place(staged: Path, destination: Path) -> None:
    if staged.is_dir() and destination.exists():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(staged), _AT_FDCWD, os.fsencode(destination), _RENAME_EXCHANGE) != 0:
            code = ctypes.get_errno()
            if code not in (errno.EINVAL, errno.ENOSYS):
                raise OSError(code, os.strerror(code))
            aside = staged.with_name(staged.name + ".old")  # file systems that cannot exchange: two renames
            destination.rename(aside)
            staged.rename(destination)
    else:
        staged.replace(destination)
    _fsync(destination.parent)


def flush_to_disk(path: Path) -> None:
    """Fsync a file, or every file and directory of a tree."""
    if path.is_dir():
        for directory, _, names in os.walk(path):
            for name in names:
                _fsync(Path(directory) / name)
            _fsync(Path(directory))
    else:
        _fsync(path)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_staging(paths: ProductPaths, *, older_than_s: float = 3600.0) -> list[Path]:
    """Remove what crashed stages left in staging folders and has not been touched for ``older_than_s``; returns it."""
    limit = time.time() - older_than_s
    removed: list[Path] = []
    for root in paths.staging_roots():
        for staging in root.rglob(STAGING):
            for leftover in staging.iterdir():
                newest = max((p.stat().st_mtime for p in [leftover, *leftover.rglob("*")]), default=0.0)
                if newest < limit:
                    shutil.rmtree(leftover, ignore_errors=True)
                    removed.append(leftover)
    return removed


def size_bytes(path: Path) -> int:
    """Bytes of a file or of all files of a tree."""
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def checksum(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a tree in sorted order."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(str(file.relative_to(path)).encode() if path.is_dir() else b"")
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
