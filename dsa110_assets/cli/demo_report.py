"""Comparison of a demonstration's measurements with the simulator's sky: the final table and the verdict.

Only this module and tests read the true sky.
"""

# pandas' stubs do not know what a selection gives:
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sqlalchemy import select

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.ingest import status
from dsa110_assets.registry.bulk import read_frame
from dsa110_assets.registry.queries.variability import candidates
from dsa110_assets.registry.schema import Detection, ImageRow, MosaicKind, MosaicRow, Photometry, Source

if TYPE_CHECKING:
    from rich.console import Console

    from dsa110_assets.cli.demo_places import DemoPlaces
    from dsa110_assets.simulation.night import DemoPlan
    from dsa110_assets.stages.platform import Platform

MIN_SNR = 20.0
MAX_OFFSET_ARCSEC = 0.5
MAX_PULL = 4.5
"""Of any source, in units of the error in its light curve; that of the calibrator is 0.012 % of its flux."""
MAX_WIDTH_SIGMA = 3.0
"""The width of N pulls is 1 within so many times its own error, 1 / sqrt(2 N)."""
MAX_BIAS = 0.01
MAX_NOISE_EXCESS = 0.15
_MATCH_ARCSEC = 10.0


@dataclass(frozen=True)
class DemoReport:
    """Measured and true values.

    ``sources``: one row for each night and true source inside the 20 % beam level with a true S/N above `MIN_SNR`.
    Columns: name, mosaic, snr, true_jy, flux_jy, flux_err_jy, calibration_err_jy (the part of the error that is
    not noise), error (relative), offset_arcsec (of the blind detection); NaN where the source was not measured or not
    found.
    ``noise``: measured over thermal noise of each tile. ``candidates``: ranked. ``event_source``: name of the source
    that should be the top candidate.
    """

    sources: pd.DataFrame
    noise: pd.Series
    candidates: pd.DataFrame
    event_source: str

    def promises(self) -> list[tuple[str, str, bool]]:
        """(promise, figure, kept) for each promise of the demonstration."""
        s = self.sources
        found = s["offset_arcsec"].notna()
        offset = s["offset_arcsec"].max(skipna=False)  # NaN, which fails the promise, if one is missing
        pulls = (s["flux_jy"] - s["true_jy"]) / s["flux_err_jy"]
        worst, width = float(pulls.abs().max(skipna=False)), float(np.sqrt((pulls**2).mean(skipna=False)))
        width_limit = MAX_WIDTH_SIGMA / np.sqrt(2 * max(len(pulls), 1))
        enlarged = 1 / np.sqrt(1 - (s["calibration_err_jy"].fillna(0) / s["flux_err_jy"]) ** 2) - 1
        bias = s["error"].median(skipna=False)
        top = str(self.candidates["name"].iloc[0]) if len(self.candidates) else "none"
        return [
            (f"every source above {MIN_SNR:g} sigma is found", f"{int(found.sum())} of {len(s)}", bool(len(s)) and bool(found.all())),
            (
                f"positions within {MAX_OFFSET_ARCSEC} arcsec",
                f"worst {offset:.2f}, median {s['offset_arcsec'].median():.3f}",
                bool(offset <= MAX_OFFSET_ARCSEC),
            ),
            (f"no flux more than {MAX_PULL:g} of its errors from the truth", f"worst {worst:.1f}", worst <= MAX_PULL),
            (
                "errors of fluxes describe their scatter",
                f"width {width:.2f}, 1 within {width_limit:.2f} for {len(pulls)} fluxes "
                f"(noise enlarged by {enlarged.median():.1%} for what is not noise, at most {enlarged.max():.0%})",
                bool(abs(width - 1) <= width_limit),
            ),
            (f"median flux bias below {MAX_BIAS:.0%}", f"{bias:+.2%}", bool(abs(bias) <= MAX_BIAS)),
            (
                f"noise of every tile within {MAX_NOISE_EXCESS:.0%} of thermal",
                f"{self.noise.min():.3f} to {self.noise.max():.3f} times, median {self.noise.median():.3f}",
                bool(((self.noise - 1).abs() <= MAX_NOISE_EXCESS).all()) and bool(len(self.noise)),
            ),
            ("the scattering event is the top candidate", f"{top} (event: {self.event_source})", top == self.event_source),
        ]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(kept for _, _, kept in self.promises())


def compare(platform: Platform, truth_dir: Path, plan: DemoPlan) -> DemoReport:
    """Read the measurements and the true sky, and put them side by side."""
    truth = pd.read_parquet(truth_dir / "truth.parquet")
    with platform.database.session() as session:
        fluxes = read_frame(
            session,
            select(
                Source.name,
                Source.ra_deg,
                Source.dec_deg,
                Photometry.mosaic_name,
                Photometry.flux_jy,
                Photometry.flux_err_jy,
                Photometry.calibration_err_jy,
            ).join(Source, Source.source_id == Photometry.source_id),
        ).astype({"calibration_err_jy": float})  # None where it was not measured
        detections = read_frame(session, select(Detection.mosaic_name, Detection.ra_deg, Detection.dec_deg).where(Detection.reliable))
        mosaics = read_frame(session, select(MosaicRow.name, MosaicRow.directory).where(MosaicRow.kind == MosaicKind.HOURLY))
        images = read_frame(session, select(ImageRow.noise_jy_per_beam, ImageRow.thermal_jy_per_beam))
        ranked = candidates(session, plan.nights[-1].date)
    return DemoReport(
        sources=_side_by_side(truth, fluxes, detections, mosaics),
        noise=images["noise_jy_per_beam"] / images["thermal_jy_per_beam"],
        candidates=ranked,
        event_source=_nearest_name(truth[truth["name"] == plan.event_source].iloc[0], fluxes),
    )


def _separation_arcsec(ra_deg: float, dec_deg: float, table: pd.DataFrame) -> np.ndarray:
    return (
        np.degrees(
            angular_separation_rad(np.radians(ra_deg), np.radians(dec_deg), np.radians(table["ra_deg"]), np.radians(table["dec_deg"]))
        )
        * 3600
    )


def _nearest_name(true: pd.Series, fluxes: pd.DataFrame) -> str:
    return str(fluxes["name"].iloc[int(np.argmin(_separation_arcsec(true["ra_deg"], true["dec_deg"], fluxes)))]) if len(fluxes) else ""


def _side_by_side(truth: pd.DataFrame, fluxes: pd.DataFrame, detections: pd.DataFrame, mosaics: pd.DataFrame) -> pd.DataFrame:
    """Table of all true sources of all nights above `MIN_SNR` by the mosaics' noise maps; see `DemoReport`.

    Mosaics of neighboring hours share tiles, but each transit is measured in only one: a row is of the mosaic that has
    the flux.
    """
    rows: list[dict[str, object]] = []
    for night in sorted({_night(name) for name in mosaics["name"]}):
        here = mosaics[mosaics["name"].map(_night) == night]
        noise_jy = np.array([_noise_at(Path(directory) / f"{name}-noise.fits", truth) for name, directory in here.to_numpy()])
        true_jy = truth[f"flux_jy_{night}"].to_numpy(dtype=float)
        snr = true_jy / noise_jy  # (mosaics, sources)
        measured = fluxes[fluxes["mosaic_name"].isin(here["name"])]
        for index in np.flatnonzero((snr >= MIN_SNR).any(axis=0)):
            ra_deg, dec_deg = float(truth["ra_deg"].iloc[index]), float(truth["dec_deg"].iloc[index])
            away = _separation_arcsec(ra_deg, dec_deg, measured)
            one = measured.iloc[int(np.argmin(away))] if len(away) and away.min() < _MATCH_ARCSEC else None
            mosaic = str(here["name"].iloc[int(np.nanargmax(snr[:, index]))] if one is None else one["mosaic_name"])
            offset = _separation_arcsec(ra_deg, dec_deg, detections[detections["mosaic_name"] == mosaic]).min(initial=np.inf)
            flux_jy = float("nan") if one is None else float(one["flux_jy"])
            rows.append(
                {
                    "name": str(truth["name"].iloc[index] if one is None else one["name"]),
                    "mosaic": mosaic,
                    "snr": snr[list(here["name"]).index(mosaic), index],
                    "true_jy": true_jy[index],
                    "flux_jy": flux_jy,
                    "flux_err_jy": float("nan") if one is None else float(one["flux_err_jy"]),
                    "calibration_err_jy": float("nan") if one is None else float(one["calibration_err_jy"]),
                    "error": flux_jy / true_jy[index] - 1,
                    "offset_arcsec": offset if offset < _MATCH_ARCSEC else float("nan"),
                }
            )
    columns = ["name", "mosaic", "snr", "true_jy", "flux_jy", "flux_err_jy", "calibration_err_jy", "error", "offset_arcsec"]
    return pd.DataFrame(rows, columns=columns).sort_values(["mosaic", "true_jy"], ascending=[True, False])


def _night(mosaic: str) -> str:
    return mosaic.removeprefix("hourly_")[:10]


def _noise_at(noise_path: Path, positions: pd.DataFrame) -> np.ndarray:
    """Noise of a mosaic at each position, Jy/beam; NaN outside the 20 % beam level and within one beam of its rim."""
    from scipy.ndimage import binary_erosion

    from dsa110_assets.common.fits_planes import celestial_wcs, pixel_positions, read_plane
    from dsa110_assets.common.restoring_beam import RestoringBeam

    noise, header = read_plane(noise_path)
    wcs = celestial_wcs(header)
    beam_px = int(np.ceil(RestoringBeam.from_header(header).major_deg / abs(wcs.wcs.cdelt[0])))
    inside = binary_erosion(np.isfinite(noise), iterations=beam_px)
    x, y = (np.round(axis) for axis in pixel_positions(wcs, positions["ra_deg"], positions["dec_deg"]))
    on_map = (x >= 0) & (y >= 0) & (x < noise.shape[1]) & (y < noise.shape[0])
    column, row = np.where(on_map, x, 0).astype(int), np.where(on_map, y, 0).astype(int)
    return np.where(on_map & inside[row, column], noise[row, column].astype(float), np.nan)


def show(console: Console, report: DemoReport, platform: Platform, places: DemoPlaces, port: int | None, elapsed_s: float) -> None:
    """Print the tables, the verdict, and where to find everything."""
    from rich.table import Table

    table = Table(title="True and measured fluxes", title_justify="left")
    for name in ("source", "mosaic", "S/N", "true Jy", "measured Jy", "error", "offset arcsec"):
        table.add_column(name, justify="left" if name in ("source", "mosaic") else "right", no_wrap=True)
    for row in report.sources.to_dict("records"):
        table.add_row(
            row["name"],
            row["mosaic"],
            f"{row['snr']:.0f}",
            f"{row['true_jy']:.4f}",
            f"{row['flux_jy']:.4f} +- {row['flux_err_jy']:.4f}",
            f"{row['error']:+.2%}",
            f"{row['offset_arcsec']:.3f}",
        )
    console.print(table)
    with platform.database.session() as session:
        rejected = status.rejected_files(session)
    console.print("[bold]Rejected files, left where they are[/]")
    for one in rejected:
        console.print(f"  {Path(one.path).name}: {one.reason}")
    console.print("[bold]Candidates[/]")
    for row in report.candidates.head(5).to_dict("records"):
        console.print(f"  {row['rank']}. {row['name']}  score {row['score']:.1f}, depth {row['depth']:+.0%}, {row['reasons']}")
    console.print("[bold]Promises[/]")
    for promise, figure, kept in report.promises():
        console.print(f"  [{'green' if kept else 'red'}]{'kept  ' if kept else 'BROKEN'}[/] {promise}: {figure}")
    console.print(f"[bold]Where to look[/] (after {elapsed_s:.0f} s)")
    console.print(f"  images, mosaics, tables: {places.root / 'products'}; Measurement Sets: {places.root / 'ms'}")
    console.print(f"  the registry: `source {places.root / 'demo.env'} && dsa110 db query 'TABLE ingest_queue'`")
    if port is not None:
        console.print(f"  pages for astronomers: http://127.0.0.1:{platform.config.api_port}/ui/dashboard")
        console.print(
            f"  Dagster UI: http://127.0.0.1:{port}/assets (asset graph: /asset-groups); it runs until `make clean` or `dsa110 demo --stop`"
        )
