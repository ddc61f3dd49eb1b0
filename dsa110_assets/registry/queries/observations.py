"""Observations (`ingest_queue`, read only) and Measurement Sets (`ms_index`)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from dsa110_assets.errors import UnknownGroupError
from dsa110_assets.registry.bulk import upsert
from dsa110_assets.registry.schema import IngestGroup, MeasurementSetRow


def observation(session: Session, group_id: str) -> IngestGroup:
    """An observation, by its identifier.

    Raises:
        UnknownGroupError: no observation has this name.
    """
    row = session.get(IngestGroup, group_id)
    if row is None:
        raise UnknownGroupError(group_id, "is not in the ingest queue", "list observations with `dsa110 ingest status`")
    return row


def upsert_measurement_set(
    session: Session,
    *,
    path: str,
    group_id: str,
    kind: str,
    status: str,
    start_mjd: float,
    mid_mjd: float,
    end_mjd: float,
    ra_deg: float,
    dec_deg: float,
    pointing_dec_deg: float,
    n_channels: int,
    flagged_fraction: float,
    size_bytes: int,
    calibrator: str | None = None,
    bad_antennas: Sequence[str] = (),
) -> None:
    """Register a Measurement Set.

    ``kind``: ``raw`` or ``calibrated``. ``ra_deg``, ``dec_deg``: ICRS phase center. ``bad_antennas``: for which it was
    flagged because people had marked them; sorted.
    """
    upsert(
        session,
        MeasurementSetRow,
        {
            "path": str(path), "group_id": group_id, "kind": kind, "status": status, "start_mjd": start_mjd, "mid_mjd": mid_mjd,
            "end_mjd": end_mjd, "ra_deg": ra_deg, "dec_deg": dec_deg, "pointing_dec_deg": pointing_dec_deg, "calibrator": calibrator,
            "n_channels": n_channels, "flagged_fraction": flagged_fraction, "size_bytes": size_bytes, "bad_antennas": list(bad_antennas),
        },
        refresh=["created_at"],
    )  # fmt: skip
