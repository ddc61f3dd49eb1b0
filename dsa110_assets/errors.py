"""Typed errors of the pipeline, and which of them may be retried.

Every error names what it is about (a file, a group, a table), what was expected and what to do next, because the person
who reads it is on shift at 3 a.m. Errors that a second attempt may cure derive from `RetriableError`, all others from
`NonRetriableError`. What does not belong here: handling them.
"""

from __future__ import annotations


class PipelineError(Exception):
    """Base class. ``subject`` is the file, group or table; ``cause`` what is wrong; ``next_step`` what a person does."""

    def __init__(self, subject: object, cause: str, next_step: str) -> None:
        self.subject = str(subject)
        self.cause = cause
        self.next_step = next_step
        super().__init__(f"{self.subject}: {cause}. Next: {next_step}")

    def __reduce__(self) -> tuple[type[PipelineError], tuple[str, str, str]]:
        """Errors cross process boundaries (CASA runs in child processes)."""
        return type(self), (self.subject, self.cause, self.next_step)


class RetriableError(PipelineError):
    """The same attempt may succeed later: a lost connection, a killed child, a busy disk."""


class NonRetriableError(PipelineError):
    """Another attempt with the same inputs will fail in the same way."""


class InvalidRawFileError(NonRetriableError):
    """A file in the incoming directory is not a subband file of this telescope."""


class IncompleteGroupError(NonRetriableError):
    """An observation has too few valid subbands."""


class UnknownGroupError(NonRetriableError):
    """The ingest queue has no observation of this name."""


class GroupBusyError(RetriableError):
    """The observation is being processed by someone else, whose lease has not expired."""


class LeaseLostError(NonRetriableError):
    """The observation belongs to another attempt by now; what this one still does must not be recorded."""


class MeasurementSetError(NonRetriableError):
    """A path is not a Measurement Set, or one with another layout than this platform writes, or one that is not calibrated."""


class NoCalibratorError(NonRetriableError):
    """No catalogued calibrator with a flux at 20 cm transits in the data."""


class NoCalibrationError(RetriableError):
    """No valid calibration table exists (yet) for this time and declination."""


class CalibrationQualityError(NonRetriableError):
    """Solutions were found and refused."""


class CalibrationMismatchError(NonRetriableError):
    """Calibration tables do not belong to the data: another declination strip, band or array, or changed since they were registered."""


class FluxScaleError(NonRetriableError):
    """A calibrator has no usable flux density; none is ever assumed."""


class ImagingError(NonRetriableError):
    """The visibilities cannot give an image: all flagged, uncalibrated, or no usable channel."""


class RestoringBeamError(NonRetriableError):
    """A restoring beam that no image can have: an axis is not finite and positive, or the minor axis is the longer one."""


class MosaicError(NonRetriableError):
    """The tiles cannot be combined: none, or of different declination strips."""


class PhotometryError(NonRetriableError):
    """Fluxes cannot be measured: no beam, maps that do not fit each other, wrong units."""


class LightCurveError(NonRetriableError):
    """Light curves that must not be used: not normalised, not in Jy, or too few references to normalise with."""


class StorageError(RetriableError):
    """The disk is full, read-only or failing while a product is written."""


class PublishError(RetriableError):
    """A product could not be moved into place."""


class ProductVerificationError(NonRetriableError):
    """A product that was just written cannot be read back as what it should be."""


class ChildFailedError(RetriableError):
    """A child process died or ran out of its time."""


class RegistryError(RetriableError):
    """The product database cannot be reached or refused a change."""


class CatalogServiceError(RetriableError):
    """A catalogue service on the network cannot be reached or answers nonsense."""


class AlertNotDeliveredError(RetriableError):
    """The webhook for alerts did not answer, or refused the message."""


class ConfigurationError(NonRetriableError):
    """A setting is missing or contradicts another."""
