"""Jobs that a person asks for: a trial image, and a night's tables with another reference antenna."""

from datetime import date
from typing import Any

import dagster as dg
from pydantic import Field

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.orchestration.metadata import preview_markdown, table
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures


class TrialRequest(dg.Config):
    """Which observation to image, and how. A setting that is left out is the platform's own."""

    observation: str = Field(description="The observation, such as 2025-12-01T05:03:21.")
    image_size: int | None = Field(default=None, description="Pixels on a side, even.")
    cell_arcsec: float | None = Field(default=None, description="Pixel size, arcsec.")
    briggs_robust: float | None = Field(default=None, description="Robustness, -2 (sharpest) to 2 (most sensitive).")
    taper_arcsec: float | None = Field(default=None, description="FWHM of a taper that widens the beam, arcsec.")
    uv_min_lambda: float | None = Field(default=None, description="Shortest baseline, wavelengths.")
    uv_max_lambda: float | None = Field(default=None, description="Longest baseline, wavelengths.")
    niter: int | None = Field(default=None, description="Most minor iterations; 0 gives the dirty image.")
    auto_mask_sigma: float | None = Field(default=None, description="Find components down to this many times the noise.")
    auto_threshold_sigma: float | None = Field(default=None, description="Clean components down to this many times the noise.")
    selfcal_rounds: int | None = Field(default=None, description="Most rounds of self-calibration.")


@dg.op(description="Images an observation with other settings, beside the products.", pool="cpu")
def image_on_trial(context: dg.OpExecutionContext, config: TrialRequest, platform: PlatformResource) -> None:
    """Make the trial image."""
    from dsa110_assets.stages.operations import trial_images

    chosen = config.model_dump(exclude={"observation"}, exclude_none=True)
    with explained_failures():
        opened = platform.open(validate_paths=False)
        folder, figures = trial_images.image_on_trial(opened, config.observation, chosen, context.run_id)
        picture = trial_images.preview(opened.paths, folder.name)
    metadata: dict[str, Any] = {
        "preview": dg.MetadataValue.md(preview_markdown(picture)),
        "folder": dg.MetadataValue.path(str(folder)),
        "figures": table([{"figure": name, "value": str(value)} for name, value in figures.items()]),
    }
    context.add_output_metadata(metadata)


class ReferenceRequest(dg.Config):
    """Which night to solve again, and with which antenna."""

    night: str = Field(description="The night, UTC, such as 2025-12-01.")
    refant: str = Field(description="Name of the reference antenna, such as 103.")


@dg.op(description="Solves all calibrator transits of a night with a reference antenna, and registers the tables.", pool="casa")
def solve_with_reference(context: dg.OpExecutionContext, config: ReferenceRequest, platform: PlatformResource) -> None:
    """Solve the night."""
    from dsa110_assets.stages.operations import other_reference

    with explained_failures():
        results = other_reference.solve_with(platform.open(validate_paths=False), _night(config.night), config.refant, context.run_id)
    rows = [{"observation": one.key, **{name: str(value) for name, value in one.figures.items()}} for one in results]
    context.add_output_metadata({"tables": table(rows)})


def _night(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise ConfigurationError("night to solve", f"{text!r} is not a date", "write it as 2025-12-01") from error


trial_image_job = dg.GraphDefinition(
    name="trial",
    node_defs=[image_on_trial],
    description="Images one observation with other settings. No product changes; the control panel shows the result.",
).to_job(name="trial_image")
solve_again_job = dg.GraphDefinition(
    name="solve",
    node_defs=[solve_with_reference],
    description="Solves the calibrator transits of a night with another reference antenna; the new tables replace the old.",
).to_job(name="solve_again")
JOBS = (trial_image_job, solve_again_job)
