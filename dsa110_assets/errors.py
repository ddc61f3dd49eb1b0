"""Typed errors of the pipeline, and which of them may be retried.

Every error names its subject (a file, an observation, a table), the cause, and what to do next: the person who reads it
may be on shift at 3 a.m. An error that a second attempt may cure derives from `RetriableError`, every other one from
`NonRetriableError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar


class PipelineError(Exception):
    """Base class. ``subject``: file, observation or table. ``cause``: what is wrong. ``next_step``: what to do."""

    is_failure: ClassVar[bool] = True
    """Whether an attempt that ends with it counts as a failure of its observation. If not, the observation waits."""

    def __init__(self, subject: object, cause: str, next_step: str) -> None:
        self.subject = str(subject)
        self.cause = cause
        self.next_step = next_step
        super().__init__(f"{self.subject}: {cause}. Next: {next_step}")

    def __reduce__(self) -> tuple[type[PipelineError], tuple[str, str, str]]:
        """Support pickling: errors cross process boundaries, because CASA runs in child processes."""
        return type(self), (self.subject, self.cause, self.next_step)


class RetriableError(PipelineError):
    """An error that may pass: a lost connection, a killed child, a busy disk."""


class NonRetriableError(PipelineError):
    """An error that repeats with the same inputs."""


class InvalidRawFileError(NonRetriableError):
    """A file in the input directory is not a raw file of this telescope."""


class ChecksumError(NonRetriableError):
    """A raw file does not have the bytes of its checksum, or its checksum file is none.

    ``reasons``: why, by path of the raw file. Empty in an error that crossed a process boundary.
    """

    reasons: Mapping[str, str] = MappingProxyType({})


class MissingChecksumError(RetriableError):
    """A raw file has no checksum file (yet), although the correlator should write one."""


class IncompleteGroupError(NonRetriableError):
    """An observation has too few valid subbands."""


class UnknownGroupError(NonRetriableError):
    """The ingest queue has no observation of this name."""


class GroupBusyError(RetriableError):
    """Another run works on the observation, and its lease has not expired."""


class LeaseLostError(NonRetriableError):
    """The observation belongs to another attempt now. The results of this attempt must not be recorded."""


class QuestionTooSlowError(NonRetriableError):
    """A question to the registry took longer than its limit and was stopped."""


class MeasurementSetError(NonRetriableError):
    """A path is not a Measurement Set, is damaged or not calibrated, or has another layout than the platform's."""


class ForeignDataError(NonRetriableError):
    """A Measurement Set of another telescope or program lacks what is needed, or leaves a choice to the person."""


class NoCalibratorError(NonRetriableError):
    """No cataloged calibrator with a 20 cm flux density transits in the data."""


class NoCalibrationError(RetriableError):
    """No valid calibration tables exist (yet) for this time and declination."""


class CalibrationQualityError(NonRetriableError):
    """Solutions were found, but they are refused for their quality."""


class CalibrationMismatchError(NonRetriableError):
    """Calibration tables do not fit the data: another strip, band or array, or changed since they were registered."""


class FluxScaleError(NonRetriableError):
    """A calibrator has no usable flux density. The platform never assumes one."""


class NoModelError(NonRetriableError):
    """The catalog has no source in a tile that is bright enough for a model."""


class ImagingError(NonRetriableError):
    """The visibilities cannot give an image: all flagged, uncalibrated, or no usable channel."""


class RestoringBeamError(NonRetriableError):
    """A restoring beam is impossible: an axis is not finite and positive, or the minor axis is the longer one."""


class MosaicError(NonRetriableError):
    """The tiles cannot be combined: there are none, or they belong to different strips."""


class PhotometryError(NonRetriableError):
    """Fluxes cannot be measured: no beam, maps that do not match, wrong units."""


class LightCurveError(NonRetriableError):
    """Light curves cannot be used: not normalized, not in Jy, or too few references for the normalization."""


class StorageError(RetriableError):
    """The disk was full, read-only or failing while something was written or read."""


class DiskFullError(StorageError):
    """The disk was full while something was written. Observations wait for space."""

    is_failure = False


class InputUnreadableError(RetriableError):
    """The directory of the raw files cannot be read. Observations wait for it."""

    is_failure = False


class StoppedError(RetriableError):
    """The platform was stopped while it worked on an observation, which is made after the next start."""

    is_failure = False


class RunDeletedError(RetriableError):
    """A person deleted a run in Dagster before its observation was made. Another run makes it."""


class PublishError(RetriableError):
    """A product could not be moved into place now."""


class ProductVerificationError(NonRetriableError):
    """A new product does not read back as it should."""


class ChildFailedError(RetriableError):
    """A child process died or exceeded its time limit."""


class RegistryError(RetriableError):
    """The registry cannot be reached, or does not finish a change now."""


class CatalogServiceError(RetriableError):
    """A catalog service on the network cannot be reached, or its answer is unusable."""


class AlertNotDeliveredError(RetriableError):
    """The webhook for alerts did not answer, or refused the message."""


class ConfigurationError(NonRetriableError):
    """A setting, path or option is missing, cannot be used, or contradicts another."""


class NotFoundError(NonRetriableError):
    """The registry has nothing of this name."""


class GoneError(NonRetriableError):
    """The files of this version of a product were replaced or removed."""


class AccessError(NonRetriableError):
    """A request that changes something came without a valid token."""


class InvalidRequestError(NonRetriableError):
    """A request contradicts itself, or it asks for more than the API gives at once."""


class DagsterUnreachableError(RetriableError):
    """The Dagster UI, through which runs are started and stopped, does not answer."""


class PositionsError(NonRetriableError):
    """A list of positions cannot be read, or has rows that are not positions."""


class OutputIsInputError(NonRetriableError):
    """A command would overwrite one of its own inputs."""


class RelocationError(NonRetriableError):
    """Registered paths cannot move to another directory: the files are not there, or are others."""
