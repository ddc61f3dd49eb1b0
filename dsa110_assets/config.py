"""All settings of the platform: one model, environment variables with the prefix ``PIPELINE_``, a ``.env`` file.

Every value is documented by its field's description, which `dsa110 config show` prints. What does not belong here: facts
of the instrument (`common.instrument`), names of products (`products`), secrets other than the database URL.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from dsa110_assets import strips
from dsa110_assets.errors import ConfigurationError

_SCIENCE: JsonDict = {"science": True}
"""Marks settings that change the content of a product; the recipe of each product that reads one declares it."""


class PipelineConfig(BaseSettings):
    """Configuration of the whole platform; each field is read from ``PIPELINE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PIPELINE_", env_file=".env", extra="ignore", frozen=True)

    # --- directories
    input_dir: Path = Field(
        Path("/data/incoming"), description="Directory in which the correlator leaves raw subband files; only ever read."
    )
    output_dir: Path = Field(Path("/stage/dsa110-contimg/ms"), description="Measurement Sets, one folder per UTC date.")
    scratch_dir: Path = Field(
        Path("/stage/dsa110-contimg"), description="Calibration tables, images, mosaics, exports, and temporary files of the stages."
    )
    state_dir: Path = Field(Path("state"), description="Embedded database, Dagster home, reference catalogues, logs.")

    # --- services
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL server (postgresql://user:password@host/db). Unset: an embedded server under the state directory."
    )
    api_host: str = Field("127.0.0.1", description="Address on which the services of `dsa110 up` listen.")
    dagster_port: int = Field(3000, ge=1, le=65535, description="Port of the Dagster UI in development.")
    max_workers: int = Field(
        4,
        ge=1,
        le=32,
        description="Most runs at a time; `dsa110 up` also starts no more than there are cores, plus one, and no more than memory holds.",
    )
    threads_per_worker: int = Field(0, ge=0, le=128, description="Threads of one stage's numerical libraries; 0 means all cores.")

    # --- operation
    min_free_gib: float = Field(10.0, ge=0, description="No new work begins with less room than this on a file system of the products.")
    alert_webhook_url: SecretStr | None = Field(
        None, description='Alerts are sent there as JSON {"text": ...}, which Slack and its likes take. Unset: to the log only.'
    )
    alert_backlog_s: float = Field(3600.0, gt=0, description="Alert when a live observation has waited for a worker this long.")
    docs_url: str = Field("http://127.0.0.1:8001", description="Where the documentation is served; the Dagster UI links to it.")
    keep_staging_hours: float = Field(24.0, ge=1, description="`dsa110 clean` removes what crashed stages left in staging after this long.")
    keep_model_columns_days: float = Field(
        7.0, ge=0, description="`dsa110 clean` removes MODEL_DATA and CORRECTED_DATA of Measurement Sets after this long."
    )
    keep_measurement_sets_days: float = Field(
        0.0, ge=0, description="`dsa110 clean` removes Measurement Sets of imaged observations after this long; 0 keeps them for ever."
    )
    keep_run_logs_days: float = Field(90.0, gt=0, description="`dsa110 clean` removes the captured output of runs after this long.")
    keep_versions_days: float = Field(
        365.0, gt=0, description="`dsa110 clean` forgets superseded versions of products after this long; the current ones stay."
    )
    log_limit_mb: float = Field(50.0, gt=0, description="A service's log file is rotated at this size; five old ones are kept.")

    # --- ingest
    expected_subbands: int = Field(16, ge=1, le=32, description="Subbands of a complete observation.")
    min_subbands: int = Field(12, ge=1, le=32, description="Fewest subbands with which an observation is processed after its deadline.")
    group_deadline_s: float = Field(600.0, gt=0, description="Wait for missing subbands this long after an observation's first file.")
    scan_interval_s: float = Field(
        60.0, gt=0, description="Full scan of the input directory at least this often; the watcher is only a hint."
    )
    lease_s: float = Field(1800.0, gt=0, description="A run that has not renewed its lease for this long has lost its observation.")
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts at an observation before it is failed for good.")
    partition_start: date = Field(date(2023, 1, 1), description="First night that the partitions know.")
    hour_settle_s: float = Field(
        900.0, gt=0, description="With no newer observation, an hour is complete when nothing has arrived for this long."
    )

    # --- conversion and flagging
    writer: Literal["auto", "parallel-subband"] = Field("auto", description="Accepted for compatibility; there is one writer.")
    telescope_name: str = Field(
        "OVRO_MMA", description="Name in the Measurement Set's OBSERVATION table; one that CASA knows.", json_schema_extra=_SCIENCE
    )
    flag_rfi: bool = Field(True, description="Run AOFlagger and the residual MAD clip during conversion.", json_schema_extra=_SCIENCE)

    # --- calibration
    cal_bp_minsnr: float = Field(3.0, gt=0, description="Lowest S/N of a bandpass solution.", json_schema_extra=_SCIENCE)
    cal_gain_solint: str = Field("inf", description="Solution interval of the gains (CASA syntax).", json_schema_extra=_SCIENCE)
    cal_borrow_days: int = Field(
        3, ge=0, le=60, description="Nights away from which calibration tables may be borrowed.", json_schema_extra=_SCIENCE
    )
    cal_declination_tolerance_deg: float = Field(
        strips.TOLERANCE_DEG,
        gt=0,
        description="Tables are valid for pointings within this distance in declination.",
        json_schema_extra=_SCIENCE,
    )
    cal_model_radius_deg: float = Field(
        3.0, gt=0, description="Catalogue sources within this radius enter the calibrator's sky model.", json_schema_extra=_SCIENCE
    )
    cal_model_min_jy: float = Field(
        0.05, gt=0, description="Faintest apparent flux of a source in the calibrator's sky model.", json_schema_extra=_SCIENCE
    )
    tile_phase_solution: bool = Field(
        False,
        description="Also solve for each tile's phases against the catalogue sky; kept only where data that were not solved on improve.",
        json_schema_extra=_SCIENCE,
    )
    default_refant: str = Field(
        "103", description="Reference antenna by name (not by index); outriggers follow as fall-backs.", json_schema_extra=_SCIENCE
    )
    sefd_jy: float = Field(
        6500.0,
        gt=0,
        description="System equivalent flux density of one antenna and polarization; sets weights and the thermal prediction.",
        json_schema_extra=_SCIENCE,
    )
    max_smearing: float = Field(
        0.01, gt=0, lt=0.5, description="Largest flux loss by frequency averaging at the 20 % beam level.", json_schema_extra=_SCIENCE
    )

    # --- reference catalogues (sources of `dsa110 catalogs refresh`)
    vla_calibrators_file: Path | None = Field(None, description="VLA calibrator manual (text) from which the calibrator catalogue is made.")
    nvss_file: Path | None = Field(None, description="NVSS as Parquet: ra_deg, dec_deg, peak_jy_per_beam.")
    monitored_sources_file: Path | None = Field(
        None, description="CSV of further positions to measure in every mosaic: name, ra_deg, dec_deg."
    )

    vizier_server: str = Field(
        "vizier.cds.unistra.fr", description="VizieR or a mirror, asked by `dsa110 catalogs refresh SURVEY --dec DEC`."
    )

    # --- imaging
    gridder: Literal["wgridder", "wproject", "wsclean"] = Field(
        "wgridder", description="Imaging engine: ducc0 + radler, CASA tclean, or WSClean when it is on PATH.", json_schema_extra=_SCIENCE
    )
    image_size: int = Field(4096, ge=64, le=32768, description="Width and height of a tile image in pixels.", json_schema_extra=_SCIENCE)
    cell_arcsec: float = Field(3.0, gt=0, description="Pixel size.", json_schema_extra=_SCIENCE)
    briggs_robust: float = Field(0.5, ge=-2, le=2, description="Briggs robustness of the imaging weights.", json_schema_extra=_SCIENCE)
    clean_niter: int = Field(50_000, ge=0, description="Most minor iterations.", json_schema_extra=_SCIENCE)
    auto_mask_sigma: float = Field(
        5.0, gt=0, description="Components are searched down to this many times the noise.", json_schema_extra=_SCIENCE
    )
    auto_threshold_sigma: float = Field(
        1.0, gt=0, description="Inside the mask cleaning goes down to this many times the noise.", json_schema_extra=_SCIENCE
    )
    local_rms: bool = Field(
        False,
        description="Components must stand out from the noise of their surroundings too, not only from that of the image.",
        json_schema_extra=_SCIENCE,
    )
    multiscale: bool = Field(False, description="Multi-scale deconvolution.", json_schema_extra=_SCIENCE)
    image_channels: int = Field(
        1,
        ge=1,
        le=16,
        description="Images of so many parts of the band beside those of the whole, with a spectral index map; 1 for none.",
        json_schema_extra=_SCIENCE,
    )
    image_spectral_terms: int = Field(
        2,
        ge=1,
        le=4,
        description="Terms of the polynomial spectrum of components, with image_channels above 1.",
        json_schema_extra=_SCIENCE,
    )
    use_nvss_mask: bool = Field(True, description="Clean around catalogue positions from the first iteration.", json_schema_extra=_SCIENCE)
    mask_radius_arcsec: float = Field(60.0, gt=0, description="Radius of the circles of the catalogue mask.", json_schema_extra=_SCIENCE)
    correct_smearing: bool = Field(
        True,
        description="Tile beams and calibrator models include what averaging over channels and integrations takes; off for simulations without.",
        json_schema_extra=_SCIENCE,
    )

    selfcal_rounds: int = Field(
        0,
        ge=0,
        le=10,
        description="Most rounds of self-calibration of a tile against its own image, phases first; 0 for none.",
        json_schema_extra=_SCIENCE,
    )

    # --- verdicts on tile images; a bad tile takes no part in mosaics
    qa_noise_over_thermal_min: float = Field(0.8, ge=0, description="Lowest noise of a good tile over the thermal prediction.")
    qa_noise_over_thermal_max: float = Field(2.0, gt=0, description="Highest noise of a good tile over the thermal prediction.")
    qa_dynamic_range_min: float = Field(10.0, gt=0, description="Lowest peak over noise where the catalogue lets expect twice as much.")
    qa_residual_peak_sigma_max: float = Field(10.0, gt=0, description="Largest deviation of a good residual, in units of its noise.")
    qa_residual_std_over_mad_max: float = Field(
        1.2, gt=1, description="Largest standard deviation of a good residual over its robust noise."
    )
    qa_beam_axis_ratio_max: float = Field(6.0, gt=1, description="Longest restoring beam: major over minor axis.")
    qa_flux_ratio_tolerance: float = Field(0.1, gt=0, lt=1, description="Largest deviation of the median flux over catalogue flux from 1.")
    qa_position_beams: float = Field(
        0.05, gt=0, description="Largest median position offset in beams, or qa_position_arcsec if that is more."
    )
    qa_position_arcsec: float = Field(1.0, gt=0, description="Largest median position offset, or qa_position_beams if that is more.")
    qa_completeness_min: float = Field(0.9, ge=0, le=1, description="Lowest share of the catalogue's sources above 10 sigma in the image.")

    # --- mosaics and photometry
    mosaic_overlap_minutes: float = Field(
        10.0, ge=0, description="An hourly mosaic also takes tiles this close to its hour.", json_schema_extra=_SCIENCE
    )
    mosaic_declination_tolerance_deg: float = Field(
        strips.TOLERANCE_DEG,
        gt=0,
        description="Tiles of one mosaic lie within this distance of its strip's declination.",
        json_schema_extra=_SCIENCE,
    )
    photometry_min_catalog_jy: float = Field(
        0.01, gt=0, description="Catalogue sources brighter than this are measured in every mosaic.", json_schema_extra=_SCIENCE
    )
    source_find_sigma: float = Field(7.0, gt=3, description="Detection threshold of the blind source finder.", json_schema_extra=_SCIENCE)
    ese_threshold_sigma: float = Field(
        5.0, gt=0, description="Score above which a light curve becomes an ESE candidate.", json_schema_extra=_SCIENCE
    )

    injection_tiles: int = Field(
        1, ge=1, le=24, description="Tiles of a night into whose visibilities artificial sources are put.", json_schema_extra=_SCIENCE
    )
    injection_sources: int = Field(60, ge=10, le=1000, description="Artificial sources in each of these tiles.", json_schema_extra=_SCIENCE)

    @classmethod
    def from_env(cls, *, validate_paths: bool = True) -> Self:
        """Read the environment and ``.env``; with ``validate_paths`` the directories must exist or be creatable.

        The input directory is never created: a wrong path there would look like a telescope that is silent.

        Raises:
            ConfigurationError: names the variable and what to set.
        """
        try:
            config = cls()  # pyright: ignore[reportCallIssue]
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"PIPELINE_{'.'.join(map(str, first['loc'])).upper()}",
                f"{first['msg']} (found {first['input']!r})",
                "set it right; `dsa110 config show` explains every setting",
            ) from None
        if validate_paths:
            if not config.input_dir.is_dir():
                raise ConfigurationError(
                    "PIPELINE_INPUT_DIR", f"{config.input_dir} is not a directory", "set it to the directory of the raw files"
                )
            for name in ("output_dir", "scratch_dir", "state_dir"):
                path: Path = getattr(config, name)
                try:
                    path.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise ConfigurationError(
                        f"PIPELINE_{name.upper()}", f"{path} cannot be created ({error.strerror})", "set it to a writable directory"
                    ) from error
        return config

    @property
    def dagster_home(self) -> Path:
        """Dagster's home under `dsa110 up`: its settings and what it keeps in files."""
        return self.state_dir.absolute() / "dagster"

    @property
    def run_output_dir(self) -> Path:
        """Captured output of Dagster's runs, one folder for each."""
        return self.dagster_home / "storage"
