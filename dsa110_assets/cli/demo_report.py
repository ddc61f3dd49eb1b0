"""What a demonstration made, against the simulator's sky: the table at its end, and the verdict.

Only this module and tests read the truth.
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

from dsa110_assets.ingest import status
from dsa110_assets.instrument import angular_separation_rad
from dsa110_assets.registry.bulk import read_frame
from dsa110_assets.registry.queries.variability import candidates
from dsa110_assets.registry.schema import Detection, ImageRow, Photometry, Source

if TYPE_CHECKING:
    from rich.console import Console

    from dsa110_assets.cli.demo import DemoPlaces
    from dsa110_assets.simulation.night import DemoPlan
    from dsa110_assets.stages.platform import Platform

MIN_SNR = 20.0
MAX_OFFSET_ARCSEC = 0.5
MAX_FLUX_ERROR = 0.03
MAX_BIAS = 0.01
MAX_NOISE_EXCESS = 0.15
_MATCH_ARCSEC = 10.0


@dataclass(frozen=True)
class DemoReport:
    """Measured against true.

    ``sources``: one row for each true source and mosaic with a true S/N above `MIN_SNR`: name, mosaic, snr, true_jy, flux_jy, flux_err_jy,
    error (relative), offset_arcsec (of the blind detection; NaN where there is none). ``noise``: measured over thermal, one for each
    tile. ``candidates``: ranked. ``event_source``: name of the source that should be on top.
    """

    sources: pd.DataFrame
    noise: pd.Series
    candidates: pd.DataFrame
    event_source: str

    def promises(self) -> list[tuple[str, str, bool]]:
        """(promise, figure, kept) for each promise of the demonstration."""
        s = self.sources
        found = s["offset_arcsec"].notna()
        error, offset = s["error"].abs().max(), s["offset_arcsec"].max()
        bias = s["error"].median()
        noise = self.noise.median()
        top = str(self.candidates["name"].iloc[0]) if len(self.candidates) else "none"
        return [
            (f"every source above {MIN_SNR:g} sigma is found", f"{int(found.sum())} of {len(s)}", bool(len(s)) and bool(found.all())),
            (
                f"positions within {MAX_OFFSET_ARCSEC} arcsec",
                f"worst {offset:.2f}, median {s['offset_arcsec'].median():.3f}",
                bool(offset <= MAX_OFFSET_ARCSEC),
            ),
            (f"fluxes within {MAX_FLUX_ERROR:.0%}", f"worst {error:.2%}", bool(error <= MAX_FLUX_ERROR)),
            (f"median flux bias below {MAX_BIAS:.0%}", f"{bias:+.2%}", bool(abs(bias) <= MAX_BIAS)),
            (
                f"noise within {MAX_NOISE_EXCESS:.0%} of thermal",
                f"{noise:.3f} (worst tile {self.noise.max():.3f})",
                bool(abs(noise - 1) <= MAX_NOISE_EXCESS),
            ),
            ("the scattering event is the top candidate", f"{top} (event: {self.event_source})", top == self.event_source),
        ]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return all(kept for _, _, kept in self.promises())


def compare(platform: Platform, truth_dir: Path, plan: DemoPlan) -> DemoReport:
    """Read what was made, and the truth, and put them side by side."""
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
                Photometry.noise_jy_per_beam,
            ).join(Source, Source.source_id == Photometry.source_id),
        )
        detections = read_frame(session, select(Detection.mosaic_name, Detection.ra_deg, Detection.dec_deg))
        images = read_frame(session, select(ImageRow.noise_jy_per_beam, ImageRow.thermal_jy_per_beam))
        ranked = candidates(session, plan.nights[-1].date)
    return DemoReport(
        sources=_side_by_side(truth, fluxes, detections),
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


def _side_by_side(truth: pd.DataFrame, fluxes: pd.DataFrame, detections: pd.DataFrame) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for mosaic, measured in fluxes.groupby("mosaic_name"):
        night = str(mosaic).removeprefix("hourly_")[:10]
        seen = detections[detections["mosaic_name"] == mosaic]
        for _, true in truth.iterrows():
            separation = _separation_arcsec(true["ra_deg"], true["dec_deg"], measured)
            if not len(measured) or separation.min() > _MATCH_ARCSEC:
                continue  # this mosaic does not cover it
            one = measured.iloc[int(np.argmin(separation))]
            true_jy = float(true[f"flux_jy_{night}"])
            snr = true_jy / float(one["noise_jy_per_beam"])
            if snr < MIN_SNR:
                continue
            offsets = _separation_arcsec(true["ra_deg"], true["dec_deg"], seen) if len(seen) else np.array([np.inf])
            rows.append(
                {
                    "name": str(one["name"]),
                    "mosaic": str(mosaic),
                    "snr": snr,
                    "true_jy": true_jy,
                    "flux_jy": float(one["flux_jy"]),
                    "flux_err_jy": float(one["flux_err_jy"]),
                    "error": float(one["flux_jy"]) / true_jy - 1,
                    "offset_arcsec": float(offsets.min()) if offsets.min() < _MATCH_ARCSEC else float("nan"),
                }
            )
    columns = ["name", "mosaic", "snr", "true_jy", "flux_jy", "flux_err_jy", "error", "offset_arcsec"]
    return pd.DataFrame(rows, columns=columns).sort_values(["mosaic", "true_jy"], ascending=[True, False])


def show(console: Console, report: DemoReport, platform: Platform, places: DemoPlaces, port: int | None, elapsed_s: float) -> None:
    """Print the tables, the verdict and where to look."""
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
    console.print("[bold]Files that were refused, and left where they are[/]")
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
    console.print(f"  the registry: source {places.root / 'demo.env'} && dsa110 db query 'TABLE ingest_queue'")
    if port is not None:
        console.print(
            f"  Dagster UI: http://127.0.0.1:{port}/assets (asset graph: /asset-groups); it runs until `make clean` or `dsa110 demo --stop`"
        )
