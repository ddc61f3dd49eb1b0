"""Names and paths of raw files and of all products, built and parsed in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dsa110_assets.config import PipelineConfig
from dsa110_assets.folders import Folder

_RAW_NAME = re.compile(r"(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_sb(?P<subband>\d{2})\.hdf5")
IMAGE_SUFFIXES = ("dirty", "psf", "model", "residual", "image", "image-pb", "pb", "weight", "noise")
CHANNEL_SUFFIXES = ("image", "image-pb", "pb", "weight")
"""Suffixes of each channel of a tile imaged in channels. The channels of a mosaic have the mosaic's suffixes."""
SPECTRAL_SUFFIXES = ("alpha", "alpha-error")
"""Suffixes of such a tile's spectral index and its error."""
_IMAGE_NAME = re.compile(
    r"(?P<name>.+?)(?:-ch(?P<channel>\d{2}))?-(?P<suffix>alpha-error|alpha|image-pb|image|dirty|psf|model|residual|pb|weight|noise|coverage)\.fits"
)
NAME_JITTER_S = 120.0
"""Largest difference between the time in a raw file's name and its observation's start. The largest seen is 82 s."""
CALIBRATORS_FILE = "vla_calibrators.sqlite3"
REFERENCE_FILE = "nvss.parquet"
"""Names in the directory of catalogs: the calibrators, and the reference sky."""
EVENTS = "events.parquet"
"""Rows of `variability.ese_scores` that stand out, as of a night."""
ETA_V_PICTURE = "eta_v.png"
TOP_CANDIDATE_PICTURE = "top_candidate.png"
FLAG_PICTURE = "flags.png"
"""Picture of the flags inside a Measurement Set. Programs that read the set ignore it."""


@dataclass(frozen=True)
class RawName:
    """A raw file's name, parsed. ``stamp``: the node's clock at opening, only a hint. ``subband``: 0..99."""

    stamp: datetime
    subband: int


def parse_raw_name(name: str) -> RawName | None:
    """Parse ``YYYY-MM-DDTHH:MM:SS_sbNN.hdf5``. Return None for every other name, also for files being written."""
    match = _RAW_NAME.fullmatch(name)
    if match is None:
        return None
    try:
        stamp = datetime.strptime(match["stamp"], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return RawName(stamp, int(match["subband"]))


@dataclass(frozen=True)
class ProductPaths:
    """Paths of all products, from the directories of the configuration."""

    output_dir: Path
    scratch_dir: Path
    state_dir: Path

    @classmethod
    def of(cls, config: PipelineConfig) -> ProductPaths:
        """Paths for a configuration, made absolute."""
        return cls(config.output_dir.absolute(), config.scratch_dir.absolute(), config.state_dir.absolute())

    def folder(self, folder: Folder) -> Path:
        """Path of a folder of products."""
        if folder is Folder.MEASUREMENT_SETS:
            return self.output_dir
        return (self.state_dir if folder is Folder.CATALOGS else self.scratch_dir) / folder

    def measurement_set(self, group_id: str) -> Path:
        """Flagged, uncalibrated Measurement Set of a tile."""
        return self.folder(Folder.MEASUREMENT_SETS) / group_id[:10] / f"{group_id}.ms"

    def calibrated_ms(self, group_id: str) -> Path:
        """Calibrated, frequency-averaged Measurement Set of a tile (DATA holds calibrated data in Jy)."""
        return self.folder(Folder.MEASUREMENT_SETS) / group_id[:10] / f"{group_id}.cal.ms"

    def calibration_dir(self, group_id: str) -> Path:
        """Directory of the tables solved on this observation's calibrator (``bandpass.cal``, ``gain.cal``, plots)."""
        return self.folder(Folder.CALIBRATION) / group_id[:10] / group_id

    def image_dir(self, group_id: str) -> Path:
        """Directory of a tile's images, ``<group_id>-<suffix>.fits`` with `IMAGE_SUFFIXES`, and previews."""
        return self.folder(Folder.IMAGES) / group_id[:10] / group_id

    def mosaic_dir(self, name: str) -> Path:
        """Directory of a mosaic: ``<name>-image.fits``, ``-noise``, ``-weight``, ``-coverage``, preview."""
        return self.folder(Folder.MOSAICS) / name

    def mosaic_plan(self, name: str) -> Path:
        """List of the tiles for a mosaic on demand (JSON)."""
        return self.mosaic_plans / f"{name}.json"

    @property
    def mosaic_plans(self) -> Path:
        """Directory of the lists of tiles for mosaics on demand."""
        return self.folder(Folder.MOSAICS) / "plans"

    def injection_dir(self, night: str) -> Path:
        """Recovery of a night's artificial sources: ``recovery.parquet``, ``completeness.csv``, ``recovery.png``."""
        return self.folder(Folder.INJECTIONS) / night

    def variability_dir(self, night: str) -> Path:
        """Directory of a night's variability metrics: `EVENTS` and the preview `ETA_V_PICTURE`."""
        return self.folder(Folder.VARIABILITY) / night

    def candidates_dir(self, night: str) -> Path:
        """Directory of a night's ESE candidates: a folder for each of the best, and `TOP_CANDIDATE_PICTURE`."""
        return self.folder(Folder.CANDIDATES) / night

    def candidate_dir(self, night: str, source_id: int) -> Path:
        """Directory of one candidate of a night: ``light_curve.png``, ``cutouts.png``, ``neighbours.csv``."""
        return self.candidates_dir(night) / str(source_id)

    @property
    def catalogs_dir(self) -> Path:
        """Directory of the read-only reference catalogs."""
        return self.folder(Folder.CATALOGS)

    @property
    def staging_journal(self) -> Path:
        """Directory with an entry for each folder in which a product is being written (`staging`)."""
        return self.state_dir / "staging"

    def staging_roots(self) -> tuple[Path, ...]:
        """Directories below which a crash of `publish` may leave staging folders."""
        return tuple(root for root in map(self.folder, Folder) if root.is_dir())


def image_path(directory: Path, name: str, suffix: str) -> Path:
    """FITS file of one image product, e.g. ``image_path(directory, group_id, "image-pb")``."""
    return directory / f"{name}-{suffix}.fits"


def cutouts_path(directory: Path, name: str) -> Path:
    """Cut-outs of the measured sources of a mosaic, written before its image is removed."""
    return directory / f"{name}-cutouts.fits"


def channel_name(name: str, channel: int) -> str:
    """Beginning of the file names of one channel. ``<name>-ch00`` is the lowest frequency."""
    return f"{name}-ch{channel:02d}"


@dataclass(frozen=True)
class ImageName:
    """An image file's name, parsed: ``name`` of the tile or mosaic, ``channel`` (None: the whole band), ``suffix``."""

    name: str
    channel: int | None
    suffix: str


def parse_image_name(file_name: str) -> ImageName | None:
    """Parse a name made by `image_path` and `channel_name`. Return None for every other name.

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
    """Channel images of a tile (``-image-pb``) or of a mosaic (``-image``), corrected for the primary beam, by channel.

    Empty without channel images.
    """
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


def hour_of_mosaic(name: str) -> tuple[str, str]:
    """Night and hour of an hourly mosaic, from its name.

    >>> hour_of_mosaic("hourly_2026-03-01T05")
    ('2026-03-01', '05')
    """
    night, _, hour = name.removeprefix("hourly_").partition("T")
    return night, hour


def nightly_mosaic_name(night: str) -> str:
    """Name of a night's mosaic: ``nightly_2026-03-01``."""
    return f"nightly_{night}"
