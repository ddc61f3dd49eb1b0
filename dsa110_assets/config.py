"""All settings of the platform: one model, read from environment variables ``PIPELINE_<NAME>`` and a ``.env`` file.

Each field's description documents it; `dsa110 config show` prints it. A secret is a `SecretStr`, so that it is masked
wherever it is shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, SettingsConfigDict

from dsa110_assets import strips
from dsa110_assets.env_file import names_in_use, read_env_file, unknown_settings
from dsa110_assets.errors import ConfigurationError
from dsa110_assets.files import real_path

ENV_FILE = ".env"
PROCESS_MARK = "DSA110_SERVICES_OF"
"""Variable in the environment of every process that `dsa110 up` starts, directly or not: the state directory."""
RUN_MARK = "DSA110_RUN"
"""Variable in the environment of every process of a run on a worker: the run."""
_SCIENCE: JsonDict = {"science": True}
"""Marks a setting that changes the content of a product. The recipe of each product that reads it declares it."""


def _on_this_machine(port: str, path: str = "") -> Callable[[dict[str, Any]], str]:
    """Default of an address: the value of another setting is its port."""
    return lambda settings: f"http://127.0.0.1:{settings[port]}{path}"


class PipelineConfig(BaseSettings):
    """Configuration of the whole platform. Each field is read from ``PIPELINE_<NAME>``."""

    model_config = SettingsConfigDict(env_prefix="PIPELINE_", env_file=ENV_FILE, env_file_encoding="utf-8-sig", extra="ignore", frozen=True)

    # --- directories
    input_dir: Path = Field(Path("/data/incoming"), description="Directory in which the correlator leaves raw files. It is only read.")
    output_dir: Path = Field(Path("/stage/dsa110-contimg/ms"), description="Measurement Sets, one folder per UTC date.")
    scratch_dir: Path = Field(
        Path("/stage/dsa110-contimg"), description="Calibration tables, images, mosaics, exports, and temporary files."
    )
    state_dir: Path = Field(Path("state"), description="Embedded database, Dagster home, reference catalogs, logs.")

    # --- services
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL server (postgresql://user:password@host/db). Unset: an embedded server under the state directory."
    )
    api_host: str = Field("127.0.0.1", description="Address on which the services of `dsa110 up` listen.")
    dagster_port: int = Field(3000, ge=1, le=65535, description="Port of the Dagster UI in development.")
    api_port: int = Field(8000, ge=1, le=65535, description="Port of the HTTP API and of the documentation.")
    api_token: SecretStr | None = Field(
        None, description="Your token for the HTTP API, used by `dsa110_assets.api.client`; `dsa110 api token NAME` makes one."
    )
    carta_url: str = Field(
        "",
        description="Address of a CARTA server to which /ui/carta leads, such as http://127.0.0.1:9002, or /carta behind the front door; empty for none.",
    )
    carta_folder: Path = Field(Path("/"), description="Top-level folder of the CARTA server, below which it sees the products.")
    max_workers: int = Field(
        4,
        ge=1,
        le=32,
        description="Maximum number of simultaneous runs. `dsa110 up` also limits them to the number of cores plus one, and to the memory.",
    )
    threads_per_worker: int = Field(0, ge=0, le=128, description="Threads of the numerical libraries in one stage; 0 means all cores.")

    # --- several machines
    profile: Literal["single", "distributed"] = Field(
        "single",
        description="Where runs work: `single`, on this machine; `distributed`, on the hosts that run `dsa110 worker`. Then this machine "
        "works only if it runs a worker too.",
    )
    broker_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey (redis://host:6379/0), through which runs are announced to the workers. Nothing is lost if it dies.",
    )
    worker_queue: str = Field(
        "dsa110-pipeline", pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="Name of the queue in which runs wait for workers."
    )
    cluster_runs: int = Field(
        8, ge=1, le=1024, description="Maximum number of simultaneous runs on all workers together, in the profile `distributed`."
    )
    worker_lost_s: float = Field(
        60.0,
        ge=15,
        le=86_400,
        description="A worker without a beat for this long is lost, and its runs are given to others. Beats come every 5 s.",
    )

    # --- operation
    min_free_gib: float = Field(
        10.0, ge=0, le=1e6, description="No new work starts with less free space than this on a file system of products."
    )
    alert_webhook_url: SecretStr | None = Field(
        None, description='Webhook that receives alerts as JSON {"text": ...}, as Slack does. Unset: alerts go to the log only.'
    )
    alert_delivery: Literal["webhook", "prometheus"] = Field(
        "webhook",
        description="Who sends alerts that the platform finds: the platform to alert_webhook_url, or Prometheus and its Alertmanager, which "
        "read them from /metrics.",
    )
    alert_disk_days: float = Field(
        14.0, ge=0, le=36500, description="Alert when a disk will be full within so many days at the present rate of products."
    )
    alert_backlog_s: float = Field(
        3600.0, gt=0, le=31_557_600, description="Alert when a live observation has waited for a worker this long."
    )
    alert_flux_scale: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Alert when the median flux over catalog flux of the last day's tiles differs from 1 by more than this.",
    )
    ui_url: str = Field(
        default_factory=_on_this_machine("dagster_port"),
        description="Address of the Dagster UI as people reach it, for links of pages and alerts. It answers below the path of this address, such as /dagster. Default: its port on this machine.",
    )
    pages_url: str = Field(
        default_factory=_on_this_machine("api_port", "/ui"),
        description="Address of the pages as people reach them. The Dagster UI and alerts link to it. Default: the API's port on this machine.",
    )
    docs_url: str = Field(
        default_factory=_on_this_machine("api_port", "/docs"),
        description="Address of the documentation. The Dagster UI links to it; the API serves it. Default: its port on this machine.",
    )
    keep_staging_hours: float = Field(
        24.0, ge=1, le=876_000, description="`dsa110 clean --thorough` removes staging folders that no journal names after this long."
    )
    keep_measurement_sets_days: float = Field(
        7.0, ge=0, le=36500, description="Days for which `dsa110 clean` keeps Measurement Sets of finished observations; 0 means forever."
    )
    keep_calibrated_sets_days: float = Field(
        7.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps calibrated Measurement Sets of finished observations; 0 means forever.",
    )
    keep_working_planes_days: float = Field(
        7.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps dirty image, PSF, model and residual of a tile; 0 means forever.",
    )
    keep_mosaic_planes_days: float = Field(
        30.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps the planes of a tile from which mosaics are made; 0 means forever.",
    )
    keep_tile_maps_days: float = Field(
        90.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps beam-corrected image, noise and spectral index of a tile; 0 means forever.",
    )
    keep_mosaic_maps_days: float = Field(
        30.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps noise, weight, coverage and channels of hourly and nightly mosaics; 0 means forever.",
    )
    keep_hourly_images_days: float = Field(
        365.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps images of hourly mosaics; cut-outs of their sources stay; 0 means forever.",
    )
    keep_nightly_images_days: float = Field(
        60.0, ge=0, le=36500, description="Days for which `dsa110 clean` keeps images of nightly mosaics; 0 means forever."
    )
    keep_custom_mosaics_days: float = Field(
        0.0, ge=0, le=36500, description="Days for which `dsa110 clean` keeps mosaics on demand; 0 means forever."
    )
    keep_night_reports_days: float = Field(
        0.0,
        ge=0,
        le=36500,
        description="Days for which `dsa110 clean` keeps pictures and tables of a night's metrics, candidates and injections; 0 means forever.",
    )
    keep_run_logs_days: float = Field(
        90.0, gt=0, le=36500, description="`dsa110 clean` removes the captured output of runs after this long."
    )
    keep_runs_days: float = Field(
        30.0,
        ge=1,
        le=36500,
        description="Housekeeping deletes successful runs of Dagster, with their events, after this long. The last materialization of each partition stays.",
    )
    keep_failed_runs_days: float = Field(
        90.0, ge=1, le=36500, description="Housekeeping deletes failed and canceled runs of Dagster, with their events, after this long."
    )
    keep_versions_days: float = Field(
        365.0, gt=0, le=36500, description="`dsa110 clean` deletes the records of superseded product versions after this long."
    )
    keep_gone_files_days: float = Field(
        30.0, ge=0, le=36500, description="Days for which raw files that were deleted stay in the registry; 0 means forever."
    )
    keep_quality_days: float = Field(
        1095.0, ge=0, le=36500, description="Days for which quality figures of products are kept; 0 means forever."
    )
    keep_alerts_days: float = Field(
        365.0, ge=0, le=36500, description="Days for which alerts that have passed, and answers to them, are kept; 0 means forever."
    )
    keep_actions_days: float = Field(
        1095.0,
        ge=0,
        le=36500,
        description="Days for which it is kept what people changed through the API (`api_actions`); 0 means forever.",
    )
    keep_position_fluxes_days: float = Field(
        365.0,
        ge=0,
        le=36500,
        description="Days for which fluxes at positions that people asked for (`position_fluxes`) are kept; 0 means forever.",
    )
    keep_variability_days: float = Field(
        90.0,
        ge=0,
        le=36500,
        description="Days for which a night's variability figures are kept; those of the newest night stay; 0 means forever.",
    )
    log_limit_mb: float = Field(50.0, gt=0, le=1e6, description="A service's log file is rotated at this size. Five old ones are kept.")

    # --- ingest
    expected_subbands: int = Field(16, ge=1, le=32, description="Subbands of a complete observation.")
    min_subbands: int = Field(12, ge=1, le=32, description="Minimum number of subbands for processing an observation after its deadline.")
    group_deadline_s: float = Field(
        600.0, gt=0, le=31_557_600, description="How long to wait for missing subbands after an observation's first file."
    )
    scan_interval_s: float = Field(
        60.0, gt=0, le=86_400, description="Interval between full scans of the input directory. The watcher only speeds things up."
    )
    lease_s: float = Field(
        1800.0, gt=0, le=31_557_600, description="A run loses its observation when it has not renewed its lease for this long."
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Number of attempts at an observation before it fails for good.")
    raw_checksums: Literal["off", "correlator", "first-sight"] = Field(
        "off",
        description="Checksums of raw files, compared before use: `correlator` writes NAME.hdf5.sha256 beside each file, or the scan computes "
        "them at `first-sight`.",
    )
    partition_start: date = Field(date(2023, 1, 1), description="First night of the partitions. Earlier raw files are rejected.")
    hour_settle_s: float = Field(
        900.0, gt=0, le=31_557_600, description="Without a newer observation, an hour is complete when no file has arrived for this long."
    )

    # --- conversion and flagging
    writer: Literal["auto", "parallel-subband"] = Field("auto", description="Accepted for compatibility; there is one writer.")
    telescope_name: str = Field(
        "OVRO_MMA", description="Telescope name in the Measurement Set's OBSERVATION table. CASA must know it.", json_schema_extra=_SCIENCE
    )
    flag_rfi: bool = Field(
        True, description="Search for interference (SumThreshold and a clip of the residual) during conversion.", json_schema_extra=_SCIENCE
    )

    # --- calibration
    cal_bp_minsnr: float = Field(3.0, gt=0, le=1000, description="Minimum S/N of a bandpass solution.", json_schema_extra=_SCIENCE)
    cal_gain_solint: str = Field("inf", description="Solution interval of the gains (CASA syntax).", json_schema_extra=_SCIENCE)
    cal_borrow_days: int = Field(
        3, ge=0, le=60, description="Calibration tables may be borrowed from up to this many nights away.", json_schema_extra=_SCIENCE
    )
    cal_declination_tolerance_deg: float = Field(
        strips.TOLERANCE_DEG,
        gt=0,
        le=180,
        description="Tables are valid for pointings within this distance in declination.",
        json_schema_extra=_SCIENCE,
    )
    cal_model_radius_deg: float = Field(
        3.0, gt=0, le=90, description="Catalog sources within this radius enter the calibrator's sky model.", json_schema_extra=_SCIENCE
    )
    cal_model_min_jy: float = Field(
        0.05, gt=0, le=1e6, description="Minimum apparent flux of a source in the calibrator's sky model.", json_schema_extra=_SCIENCE
    )
    tile_phase_solution: bool = Field(
        True,
        description="Also solve for each tile's phases against the known sky, in intervals as short as pays. Keep only what improves data left out.",
        json_schema_extra=_SCIENCE,
    )
    default_refant: str = Field(
        "103", description="Reference antenna by name, not index. Outriggers are the fallbacks.", json_schema_extra=_SCIENCE
    )
    sefd_jy: float = Field(
        6500.0,
        gt=0,
        le=1e9,
        description="System equivalent flux density of one antenna and polarization. It sets the weights and the predicted thermal noise.",
        json_schema_extra=_SCIENCE,
    )
    max_smearing: float = Field(
        0.01, gt=0, lt=0.5, description="Maximum flux loss from frequency averaging at the 20 % beam level.", json_schema_extra=_SCIENCE
    )

    # --- reference catalogs (sources of `dsa110 catalogs refresh`)
    vla_calibrators_file: Path | None = Field(None, description="VLA calibrator manual (text), the source of the calibrator catalog.")
    nvss_file: Path | None = Field(None, description="NVSS as Parquet: ra_deg, dec_deg, peak_jy_per_beam.")
    monitored_sources_file: Path | None = Field(
        None, description="CSV of additional positions to measure in every mosaic: name, ra_deg, dec_deg."
    )

    vizier_server: str = Field(
        "vizier.cds.unistra.fr", description="VizieR or a mirror, used by `dsa110 catalogs refresh SURVEY --dec DEC`."
    )

    # --- imaging
    gridder: Literal["wgridder", "wproject", "wsclean"] = Field(
        "wgridder", description="Imaging engine: ducc0 + radler, CASA tclean, or WSClean when it is on PATH.", json_schema_extra=_SCIENCE
    )
    image_size: int = Field(4096, ge=64, le=32768, description="Width and height of a tile image in pixels.", json_schema_extra=_SCIENCE)
    cell_arcsec: float = Field(3.0, gt=0, le=3600, description="Pixel size.", json_schema_extra=_SCIENCE)
    briggs_robust: float = Field(0.5, ge=-2, le=2, description="Briggs robustness of the imaging weights.", json_schema_extra=_SCIENCE)
    clean_niter: int = Field(50_000, ge=0, le=2**31 - 1, description="Maximum number of minor iterations.", json_schema_extra=_SCIENCE)
    auto_mask_sigma: float = Field(
        5.0, gt=0, le=1e6, description="CLEAN searches for components down to this many times the noise.", json_schema_extra=_SCIENCE
    )
    auto_threshold_sigma: float = Field(
        1.0, gt=0, le=1e6, description="Inside the mask, CLEAN goes down to this many times the noise.", json_schema_extra=_SCIENCE
    )
    local_rms: bool = Field(
        False,
        description="Components must also stand out from the noise around them, not only from the noise of the image.",
        json_schema_extra=_SCIENCE,
    )
    multiscale: bool = Field(False, description="Multi-scale deconvolution.", json_schema_extra=_SCIENCE)
    image_channels: int = Field(
        1,
        ge=1,
        le=16,
        description="Number of channel images beside those of the whole band, with a spectral index map; 1 for none.",
        json_schema_extra=_SCIENCE,
    )
    image_spectral_terms: int = Field(
        2,
        ge=1,
        le=4,
        description="Terms of the components' polynomial spectrum, with image_channels above 1.",
        json_schema_extra=_SCIENCE,
    )
    use_nvss_mask: bool = Field(True, description="Clean around catalog positions from the first iteration.", json_schema_extra=_SCIENCE)
    mask_radius_arcsec: float = Field(
        60.0, gt=0, le=36_000, description="Radius of the circles of the catalog mask.", json_schema_extra=_SCIENCE
    )
    correct_smearing: bool = Field(
        True,
        description="Include the smearing by channels and integrations in tile beams and calibrator models. Off for simulations without smearing.",
        json_schema_extra=_SCIENCE,
    )

    selfcal_rounds: int = Field(
        0,
        ge=0,
        le=10,
        description="Maximum rounds of self-calibration of a tile against its own image, phases first; 0 for none.",
        json_schema_extra=_SCIENCE,
    )

    # --- verdicts on tile images; mosaics leave bad tiles out
    qa_noise_over_thermal_min: float = Field(
        0.8, ge=0, le=1e6, description="Minimum ratio of a good tile's noise to the predicted thermal noise."
    )
    qa_noise_over_thermal_max: float = Field(
        2.0, gt=0, le=1e6, description="Maximum ratio of a good tile's noise to the predicted thermal noise."
    )
    qa_dynamic_range_min: float = Field(
        10.0, gt=0, le=1e9, description="Minimum peak over noise where the catalog predicts at least twice as much."
    )
    qa_residual_peak_sigma_max: float = Field(
        10.0, gt=0, le=1e6, description="Maximum deviation in a good residual, in units of its noise."
    )
    qa_residual_std_over_mad_max: float = Field(
        1.2, gt=1, le=1e6, description="Maximum ratio of a good residual's standard deviation to its robust noise."
    )
    qa_beam_axis_ratio_max: float = Field(6.0, gt=1, le=1e6, description="Maximum axis ratio of the restoring beam.")
    qa_flux_ratio_tolerance: float = Field(
        0.1, gt=0, lt=1, description="Maximum deviation from 1 of the median ratio of flux to catalog flux."
    )
    qa_position_beams: float = Field(
        0.05, gt=0, le=1e6, description="Maximum median position offset in beams, or qa_position_arcsec if that is larger."
    )
    qa_position_arcsec: float = Field(
        1.0, gt=0, le=36_000, description="Maximum median position offset, or qa_position_beams if that is larger."
    )
    qa_completeness_min: float = Field(
        0.9, ge=0, le=1, description="Minimum fraction of the catalog's sources above 10 sigma that the image shows."
    )

    # --- mosaics and photometry
    mosaic_overlap_minutes: float = Field(
        10.0, ge=0, le=720, description="An hourly mosaic also includes tiles this close to its hour.", json_schema_extra=_SCIENCE
    )
    mosaic_declination_tolerance_deg: float = Field(
        strips.TOLERANCE_DEG,
        gt=0,
        le=180,
        description="Tiles of one mosaic lie within this distance of its strip's declination.",
        json_schema_extra=_SCIENCE,
    )
    photometry_min_catalog_jy: float = Field(
        0.01, gt=0, le=1e6, description="Catalog sources brighter than this are measured in every mosaic.", json_schema_extra=_SCIENCE
    )
    source_find_sigma: float = Field(
        7.0, gt=3, le=1000, description="Detection threshold of the blind source finder.", json_schema_extra=_SCIENCE
    )
    ese_threshold_sigma: float = Field(
        5.0, gt=0, le=1e6, description="Score above which a light curve becomes an ESE candidate.", json_schema_extra=_SCIENCE
    )

    injection_tiles: int = Field(
        1,
        ge=1,
        le=24,
        description="Number of tiles of a night that get artificial sources in their visibilities.",
        json_schema_extra=_SCIENCE,
    )
    injection_sources: int = Field(
        60, ge=10, le=1000, description="Number of artificial sources in each of these tiles.", json_schema_extra=_SCIENCE
    )

    @field_validator(
        "input_dir", "output_dir", "scratch_dir", "state_dir", "carta_folder", "vla_calibrators_file", "nvss_file",
        "monitored_sources_file", mode="before",
    )  # fmt: skip
    @classmethod
    def _as_a_shell_reads_it(cls, value: Any) -> Any:
        """Replace ``~``: no shell does it in ``.env`` or in units of systemd. An empty path would be this directory."""
        if not isinstance(value, str):
            return value
        if not value.strip():
            message = "is empty; remove the variable for the default"
            raise ValueError(message)
        expanded = os.path.expanduser(value)  # noqa: PTH111 - Path.expanduser raises where there is no home
        if value.startswith("~") and expanded == value:
            message = "begins with ~, and there is no such home directory"
            raise ValueError(message)
        return expanded

    @field_validator("input_dir", "output_dir", "scratch_dir", "state_dir")
    @classmethod
    def _without_dots(cls, directory: Path) -> Path:
        """Resolve ``..``: paths below a directory are registered under its name, which has to be found again."""
        return real_path(directory) if ".." in directory.parts else directory

    def own_spelling(self, path: Path) -> Path:
        """A path as the platform registers it, if it lies in one of its directories under whatever spelling.

        Symbolic links and ``..`` are resolved once, here. A path elsewhere becomes its real path.
        """
        real = real_path(path)
        for root in (self.input_dir, self.output_dir, self.scratch_dir, self.state_dir):
            if real.is_relative_to(real_root := real_path(root)):
                return root.absolute() / real.relative_to(real_root)
        return real

    @classmethod
    def from_env(cls, *, validate_paths: bool = True, raw_files: bool = True) -> Self:
        """Read the environment and ``.env``. With ``validate_paths``, check the input directory and create the others.

        The input directory is never created: with a wrong path the telescope would only seem to send nothing. What
        reads no raw files works without it (``raw_files=False``): the disk of the raw files may not be mounted yet.

        Raises:
            ConfigurationError: a value is not valid, or a directory cannot be used. It names the variable.
        """
        read_env_file(Path(ENV_FILE))
        try:
            config = cls()  # pyright: ignore[reportCallIssue]
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"PIPELINE_{'.'.join(map(str, first['loc'])).upper()}",
                f"{first['msg']} (found {first['input']!r})",
                "correct it; `dsa110 config show` explains every setting",
            ) from None
        if validate_paths:
            if raw_files and not os.path.isdir(config.input_dir):  # noqa: PTH112 - `Path.is_dir` raises where the way to it is closed
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

    @classmethod
    def unknown_names(cls) -> dict[str, str | None]:
        """Names in the environment and in ``.env`` that look like settings and are none, with the likely one."""
        return unknown_settings(cls.model_fields, names_in_use(Path(ENV_FILE)))

    @property
    def runs_at_once(self) -> int:
        """Maximum number of simultaneous runs: on this machine, or on all workers."""
        return self.cluster_runs if self.profile == "distributed" else self.max_workers

    @property
    def dagster_prefix(self) -> str:
        """Path below which the Dagster UI answers, such as ``/dagster`` behind a front door: that of ``ui_url``."""
        return urlsplit(self.ui_url).path.rstrip("/")

    @property
    def dagster_home(self) -> Path:
        """Dagster's home under `dsa110 up`: its settings and files."""
        return self.state_dir.absolute() / "dagster"

    @property
    def run_output_dir(self) -> Path:
        """Folder of the captured output of Dagster's runs, one folder for each run."""
        return self.dagster_home / "storage"
