"""Python client of the HTTP API: tasks as the earlier task manager had them, lists and light curves as data frames.

Example::

    client = TaskClient("http://127.0.0.1:8000")
    await client.connect()
    task_id = await client.spawn_task("dsa110-pipeline", "mosaic_build", {"name": "night_2025_12_01"}, priority=10)
    variable = await client.table("/api/sources", min_eta=5, sort="eta")
    curve = await client.light_curve(42)
    await client.close()
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from dsa110_assets import errors
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ChildFailedError, ConfigurationError, NonRetriableError, PipelineError

if TYPE_CHECKING:
    import httpx2
    import pandas as pd

_TIMEOUT_S = 130.0
_PAGE_ROWS = 1000


class TaskClient:
    """Client of the API. All methods raise the error that the API had, by its class, or `ChildFailedError`.

    Args:
        address: of the API, ``http://...``. A ``postgresql://`` address, as the earlier task manager had, means the API
            on the same host, at `PIPELINE_API_PORT`.
        token: a person's (`dsa110 api token NAME`), needed for what changes something. Default: `PIPELINE_API_TOKEN`.
    """

    def __init__(self, address: str = "", token: str | None = None) -> None:
        config = PipelineConfig.from_env(validate_paths=False)
        parts = urlsplit(address)
        if parts.scheme in ("postgresql", "postgres", ""):
            host = parts.hostname or config.api_host
            self.address = f"http://{host}:{config.api_port}"
        elif parts.scheme in ("http", "https"):
            self.address = address.rstrip("/")
        else:
            raise ConfigurationError(
                "address of the API", f"has the scheme {parts.scheme}", f"give one like http://127.0.0.1:{config.api_port}"
            )
        known = config.api_token.get_secret_value() if config.api_token is not None else None
        self._token = token or known
        self._client: httpx2.AsyncClient | None = None

    async def connect(self) -> None:
        """Open the connection, and check that the API answers."""
        import httpx2

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._client = httpx2.AsyncClient(base_url=self.address, headers=headers, timeout=_TIMEOUT_S, trust_env=False)
        await self._ask("GET", "/api/health")

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def spawn_task(self, queue: str, task_type: str, payload: Mapping[str, Any] | None = None, priority: int = 0) -> str:
        """Put a task into Dagster's run queue; return its identifier.

        Args:
            queue: a name to list tasks by.
            task_type: a job (`GET /api/absurd/task-types`).
            payload: what it works on, such as ``{"name": ...}`` for ``mosaic_build``.
            priority: larger goes first; live observations have 10.
        """
        body = {"queue": queue, "task_type": task_type, "payload": dict(payload or {}), "priority": priority}
        return str((await self._ask("POST", "/api/absurd/tasks", json=body)).json()["id"])

    async def task(self, task_id: str) -> dict[str, Any]:
        """State of a task."""
        return dict((await self._ask("GET", f"/api/absurd/tasks/{quote(task_id, safe='')}")).json())

    async def tasks(self, queue: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """The newest tasks, of a queue or all."""
        parameters = {"limit": limit} | ({"queue": queue} if queue else {})
        return list((await self._ask("GET", "/api/absurd/tasks", params=parameters)).json()["items"])

    async def cancel_task(self, task_id: str) -> dict[str, Any]:
        """Cancel a task; return its state."""
        return dict((await self._ask("DELETE", f"/api/absurd/tasks/{quote(task_id, safe='')}")).json())

    async def table(self, path: str, *, most: int = 10_000, **filters: Any) -> pd.DataFrame:
        """A list of the API as a data frame, all its pages up to ``most`` rows; ``filters``: its parameters."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        parameters: dict[str, Any] | None = {"limit": min(most, _PAGE_ROWS)} | filters
        following: str | None = path
        while following is not None and len(rows) < most:
            page = (await self._ask("GET", following, params=parameters)).json()
            rows += page["items"]
            following, parameters = page["next"], None
        return pd.DataFrame(rows[:most])

    async def light_curve(self, source_id: int) -> pd.DataFrame:
        """Light curve of a source: columns as in `/api/sources/ID/lightcurve`, fluxes in Jy, times UTC MJD."""
        import pandas as pd

        answer = await self._ask("GET", f"/api/sources/{int(source_id)}/lightcurve")
        return pd.DataFrame(answer.json()["points"])

    async def _ask(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        import httpx2

        if self._client is None:
            raise ConfigurationError("client of the API", "is not connected", "call `await client.connect()` first")
        try:
            answer = await self._client.request(method, path, **arguments)
        except httpx2.HTTPError as error:
            raise ChildFailedError(
                f"API at {self.address}",
                f"does not answer ({type(error).__name__})",
                "start the platform with `dsa110 up`; check PIPELINE_API_PORT",
            ) from error
        if answer.is_success:
            return answer
        raise _error_of(answer)


AbsurdClient = TaskClient
"""The name of the earlier task manager's client."""


def _error_of(answer: httpx2.Response) -> PipelineError:
    try:
        problem = dict(answer.json())
    except ValueError:
        problem = {}
    kind = getattr(errors, str(problem.get("title")), None)
    chosen = kind if isinstance(kind, type) and issubclass(kind, PipelineError) else NonRetriableError
    subject = problem.get("subject") or f"{answer.request.method} {answer.request.url.path}"
    return chosen(
        subject, str(problem.get("detail") or f"status {answer.status_code}"), str(problem.get("next_step") or "look at /api/docs")
    )
