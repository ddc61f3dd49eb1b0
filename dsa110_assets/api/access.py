"""What the routes need of a request: the registry, Dagster, and the person behind a token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.api import memory
from dsa110_assets.api.dagster import Dagster
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import AccessError, PipelineError, RegistryError
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.server import running_dagster_url, running_url
from dsa110_assets.stages.operations.systemd import how_to_start
from dsa110_assets.stages.platform import Platform

STATEMENT_LIMIT_S = 20
"""A statement that takes longer is stopped. `Access.session` has another one for slow questions."""
LONGEST_STATEMENT_S = 60
"""The same for stages, which have sessions of their own."""
T = TypeVar("T")


class Access:
    """The platform as the API sees it. It never starts the database, and opens it again after a restart."""

    def __init__(self, config: PipelineConfig) -> None:
        self.config = config
        self.paths = ProductPaths.of(config)
        self.dagster = Dagster(config)
        self._database: Database | None = None
        self._history: Database | None = None
        self._lock = threading.Lock()

    @property
    def platform(self) -> Platform:
        """The platform for stages.

        Raises:
            RegistryError: the database does not run.
        """
        with self._lock:
            if self._database is None:
                url = running_url(self.config)
                if url is None:
                    raise RegistryError(
                        "registry", "the database does not run", f"start it with {how_to_start()}; check `dsa110 db status`"
                    )
                self._database = Database(url, statement_limit_s=LONGEST_STATEMENT_S)
            return Platform(self.config, self.paths, self._database)

    @contextmanager
    def session(self, *, limit_s: int = STATEMENT_LIMIT_S) -> Generator[Session]:
        """Yield a session for one transaction, whose statements end after ``limit_s`` seconds.

        Raises:
            RegistryError: the database does not answer.
        """
        try:
            with self.platform.database.session() as session:
                session.execute(text(f"SET LOCAL statement_timeout = {int(limit_s) * 1000}"))
                yield session
        except RegistryError:
            self.close()  # its address may be another one after a restart
            raise

    @contextmanager
    def history(self) -> Generator[Session]:
        """Yield a session on Dagster's own tables, for `registry.queries.monitoring`.

        Raises:
            RegistryError: the database does not answer.
            ConfigurationError: there is none, because Dagster has never run.
        """
        with self._lock:
            if self._history is None:
                url = running_dagster_url(self.config)
                if url is None:
                    raise RegistryError("Dagster's database", "does not run", f"start it with {how_to_start()}; check `dsa110 db status`")
                self._history = Database(url, statement_limit_s=STATEMENT_LIMIT_S)
            history = self._history
        try:
            with history.session() as session:
                yield session
        except RegistryError:
            self.close()
            raise

    def ping(self) -> None:
        """Raise `RegistryError` unless the database answers, before a remembered value is given."""
        with self.session() as session:
            session.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:
            for one in (self._database, self._history):
                if one is not None:
                    one.dispose()
            self._database = self._history = None


class Remembered(Generic[T]):
    """A value that is expensive to find, kept for ``seconds``. Requests that come together find it once.

    ``grace_s``: for so long after that, a request gets the old value while a thread finds the new one, so that only the
    first request after a start, or after a long silence, waits.
    """

    def __init__(self, seconds: float, *, grace_s: float = 0.0) -> None:
        self._seconds, self._grace_s = seconds, grace_s
        self._lock = threading.Lock()
        self._value: T | None = None
        self._found_at = 0.0
        self._finder: threading.Thread | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the value was found."""
        return time.monotonic() - self._found_at

    def get(self, find: Callable[[], T], *, old_is_fine: bool = True) -> T:
        """Return the value, found again if it is too old. An error is not kept.

        Without ``old_is_fine``, whoever asks after ``seconds`` waits for the new value.
        """
        with self._lock:
            if self._value is None or self.age_s > self._seconds + (self._grace_s if old_is_fine else 0.0):
                self._keep(find())
            elif self.age_s > self._seconds and (self._finder is None or not self._finder.is_alive()):
                self._finder = threading.Thread(target=lambda: self._renew(find), daemon=True)
                self._finder.start()
            assert self._value is not None
            return self._value

    def _renew(self, find: Callable[[], T]) -> None:
        with suppress(PipelineError):  # the next request tries again
            self._keep(find())
            memory.give_back()

    def _keep(self, value: T) -> None:
        self._value, self._found_at = value, time.monotonic()


async def _access(request: Request) -> Access:
    return request.app.state.access


Opened = Annotated[Access, Depends(_access)]
_bearer = HTTPBearer(auto_error=False, description="Your token; `dsa110 api token NAME` makes one.")


Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
"""The token that a request was sent with, valid or not."""


def _person(opened: Opened, given: Bearer) -> str:
    if given is None:
        raise AccessError(
            "token", "this changes something and needs a token", "send `Authorization: Bearer TOKEN`; `dsa110 api token NAME` makes one"
        )
    with opened.session() as session:
        person = people.person_of(session, given.credentials)
    if person is None:
        raise AccessError("token", "is unknown or was revoked", "make a new one: `dsa110 api token NAME`")
    return person


Person = Annotated[str, Depends(_person)]
"""The person who sends a request. A route with this parameter refuses a request without a valid token."""
