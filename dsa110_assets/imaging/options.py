"""Options of `image_tile`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError

EngineName = Literal["wgridder", "wproject", "wsclean"]
Weighting = Literal["briggs", "natural", "uniform"]


@dataclass(frozen=True)
class ImagingOptions:
    """Options of one tile image; the defaults are those of `PipelineConfig`.

    ``engine``: imaging engine. ``image_size``: width and height, pixels (even). ``cell_arcsec``: pixel size.

    ``weighting``: natural (least noise), uniform (each uv cell counts the same) or Briggs, between them.
    ``briggs_robust``: robustness of the weights, -2 (uniform) to 2 (nearly natural); natural above 2.
    ``uv_min_lambda``, ``uv_max_lambda``: range of baseline lengths, wavelengths; a maximum of 0 means no limit.
    ``taper_arcsec``: FWHM of a Gaussian that widens the PSF; 0 for none.

    ``niter``: maximum number of minor iterations. ``auto_mask_sigma``: search for components down to this many times
    the noise. ``auto_threshold_sigma``: clean around components down to this many times the noise. ``local_rms``:
    search only where peaks also stand out from the noise of their surroundings, so that artifacts around a bright
    source are not cleaned. ``major_gain``: fraction of the peak to remove between two exact subtractions.
    ``max_major``: maximum number of exact subtractions. ``multiscale``: multi-scale CLEAN, for extended emission;
    bright sources are then not predicted individually. ``use_mask``: search around catalog positions first.
    ``mask_radius_arcsec``: radius of the circles around them.

    ``sefd_jy``: SEFD of one antenna, for the record; the thermal prediction comes from the calibrated weights.
    ``threads``: 0 means all cores. ``epsilon``: relative accuracy of the gridder where the image is bright; 1e-3
    changes no pixel by more than 1e-4 of the peak. Images without bright sources are gridded at 1e-2.

    ``reference_frequency_hz``, ``spectral_index``: fluxes are quoted at this frequency for sources of this index
    (S ~ nu^alpha); both are part of the primary beam. ``correct_smearing``: the beam includes the loss of peak flux by
    averaging in time and frequency.

    ``bright_sigma``: sources above this many times the thermal noise are predicted individually, with their drift
    through the beam; 0 for none. ``seed_from_catalog``: start with positions and fluxes from the catalog; the fit
    corrects both.

    ``channels``: number of parts of the band to image in addition to the whole, deconvolved together; 1 for none.
    ``spectral_terms``: terms of the polynomial in frequency of their components.

    ``selfcal_rounds``: maximum number of rounds of self-calibration, 0 for none. ``selfcal_integrations``: integrations
    that share its gains, 0 for the whole tile.

    ``child_timeout_s``: wall-clock limit of an engine that runs as a child process.
    """

    engine: EngineName = "wgridder"
    image_size: int = 4096
    cell_arcsec: float = 3.0
    weighting: Weighting = "briggs"
    briggs_robust: float = 0.5
    uv_min_lambda: float = 0.0
    uv_max_lambda: float = 0.0
    taper_arcsec: float = 0.0
    niter: int = 50_000
    auto_mask_sigma: float = 5.0
    auto_threshold_sigma: float = 1.0
    local_rms: bool = False
    major_gain: float = 0.9
    max_major: int = 10
    multiscale: bool = False
    use_mask: bool = True
    mask_radius_arcsec: float = 60.0
    sefd_jy: float = 6500.0
    threads: int = 0
    epsilon: float = 1e-3
    reference_frequency_hz: float = 1.4e9
    spectral_index: float = -0.7
    correct_smearing: bool = True
    bright_sigma: float = 10.0
    search_outside: bool = True
    seed_from_catalog: bool = True
    channels: int = 1
    spectral_terms: int = 2
    selfcal_rounds: int = 0
    selfcal_integrations: int = 0
    child_timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.image_size % 2 or self.image_size < 64:
            raise ConfigurationError("PIPELINE_IMAGE_SIZE", f"{self.image_size} is not an even number of at least 64", "use e.g. 4096")
        if self.uv_max_lambda and self.uv_max_lambda <= self.uv_min_lambda:
            raise ConfigurationError(
                "uv range", f"{self.uv_min_lambda} to {self.uv_max_lambda} wavelengths is empty", "make the maximum larger than the minimum"
            )
        if not 0 < self.major_gain <= 1:
            raise ConfigurationError("major_gain", f"{self.major_gain} is outside (0, 1]", "use e.g. 0.9")
        if self.channels < 1 or self.spectral_terms < 1:
            raise ConfigurationError(
                "PIPELINE_IMAGE_CHANNELS", f"{self.channels} channels, {self.spectral_terms} terms", "give at least 1 of each"
            )
        if self.channels > 1 and self.engine == "wproject":
            raise ConfigurationError(
                "PIPELINE_IMAGE_CHANNELS",
                "the engine `wproject` makes images of the whole band only",
                "use the engine `wgridder` or `wsclean`, or ask for 1 channel",
            )
        if self.selfcal_rounds and self.engine != "wgridder":
            raise ConfigurationError(
                "PIPELINE_SELFCAL_ROUNDS", f"the engine `{self.engine}` cannot predict its model", "use the engine `wgridder`, or 0 rounds"
            )
        if self.image_size * self.cell_rad > 1.0:
            raise ConfigurationError(
                "PIPELINE_CELL_ARCSEC", "the image is wider than 57 deg, too wide for a SIN projection", "reduce PIPELINE_IMAGE_SIZE"
            )

    @property
    def cell_rad(self) -> float:
        """Pixel size, radians."""
        return float(np.radians(self.cell_arcsec / 3600.0))

    @property
    def n_threads(self) -> int:
        """Threads to use: ``threads``, or all cores that this process may use."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def weighting_description(self) -> str:
        """Description of the weights for headers."""
        description = f"Briggs {self.briggs_robust}" if self.weighting == "briggs" else self.weighting
        if self.taper_arcsec:
            description += f", taper {self.taper_arcsec:g} arcsec"
        if self.uv_min_lambda or self.uv_max_lambda:
            description += f", {self.uv_min_lambda:g} to {self.uv_max_lambda or float('inf'):g} wavelengths"
        return description

    @property
    def field_radius_deg(self) -> float:
        """Radius around the center that contains the image with its corners; used to select catalog sources."""
        return 0.75 * self.image_size * self.cell_arcsec / 3600

    @classmethod
    def from_config(cls, config: PipelineConfig) -> Self:
        """Make the options from the configuration."""
        return cls(
            engine=config.gridder,
            image_size=config.image_size,
            cell_arcsec=config.cell_arcsec,
            briggs_robust=config.briggs_robust,
            niter=config.clean_niter,
            auto_mask_sigma=config.auto_mask_sigma,
            auto_threshold_sigma=config.auto_threshold_sigma,
            local_rms=config.local_rms,
            multiscale=config.multiscale,
            use_mask=config.use_nvss_mask,
            mask_radius_arcsec=config.mask_radius_arcsec,
            sefd_jy=config.sefd_jy,
            threads=config.threads_per_worker,
            correct_smearing=config.correct_smearing,
            channels=config.image_channels,
            spectral_terms=config.image_spectral_terms,
            selfcal_rounds=config.selfcal_rounds,
        )
