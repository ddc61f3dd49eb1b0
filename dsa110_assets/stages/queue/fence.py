"""The fence: a run that was given up publishes nothing, however long it was away.

A host that is cut off works on while another one makes its products again. When it comes back, it must change neither
files nor rows. So each move of a product into place happens while a row of the registry is held that says that the run,
or its attempt at an observation, is still the one that counts; and the transaction that registers the product holds the
same row (`stages.provenance.versions.register`). Who gives a run up changes that row, and waits until it is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from dsa110_assets import publication
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.queries import workers
from dsa110_assets.stages.platform import Platform


def run_counts(platform: Platform, run_id: str) -> AbstractContextManager[None]:
    """Let this process publish during the block only while its run has not been given up."""

    @contextmanager
    def hold() -> Iterator[None]:
        with platform.database.session() as session:
            workers.hold(session, run_id)
            yield

    return publication.guarded(hold)


def attempt_counts(platform: Platform, group_id: str, number: int) -> AbstractContextManager[None]:
    """Let this process publish during the block only while its attempt holds the observation."""

    @contextmanager
    def hold() -> Iterator[None]:
        with platform.database.session() as session:
            ledger.check_attempt(session, group_id, number)
            yield

    return publication.guarded(hold)
