"""Errors as answers: RFC 9457 problem details with subject, cause and next step, never a trace."""

from __future__ import annotations

import json
import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from dsa110_assets.errors import (
    AccessError,
    ConfigurationError,
    GoneError,
    GroupBusyError,
    NotFoundError,
    PipelineError,
    RegistryError,
    RetriableError,
    UnknownGroupError,
)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_PLAYBOOK = "/docs/operators/playbook.html#errors"


class Problem(BaseModel):
    """Problem details (RFC 9457). ``type``: the page that explains errors. ``next_step``: what to do."""

    type: str
    title: str
    status: int
    detail: str
    subject: str | None = None
    next_step: str | None = None
    errors: list[dict[str, str]] | None = None


_DESCRIPTION: dict[str, Any] = {"description": "Problem details.", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
DESCRIBED: dict[int | str, dict[str, Any]] = {"4XX": _DESCRIPTION, "5XX": _DESCRIPTION}
"""What the OpenAPI text says about the errors of each address."""
_STATUS: dict[type[PipelineError], int] = {
    NotFoundError: 404,
    UnknownGroupError: 404,
    GoneError: 410,
    AccessError: 401,
    GroupBusyError: 409,
    ConfigurationError: 500,
}
_log = logging.getLogger("dsa110.api")


def status_of(error: PipelineError) -> int:
    """HTTP status of a typed error: 503 if it may pass, 422 if it repeats, unless its class has its own."""
    if type(error) in _STATUS:
        return _STATUS[type(error)]
    return 503 if isinstance(error, RetriableError) else 422


def problem(status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return an answer with problem details."""
    content = {"type": _PLAYBOOK, "title": title, "status": status, "detail": detail, **more}
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


def of_pipeline_error(error: PipelineError) -> JSONResponse:
    """Return the answer to a typed error. The registry's address is not shown."""
    status = status_of(error)
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": str(RETRY_AFTER_S)}}.get(status)
    if isinstance(error, RegistryError):
        _log.warning("%s", error)
        return problem(
            status,
            type(error).__name__,
            "the registry does not answer; its database may be restarting",
            subject="registry",
            next_step="try again in some seconds; if it lasts, check `dsa110 db status`",
            headers=headers,
        )
    return problem(status, type(error).__name__, error.cause, subject=error.subject, next_step=error.next_step, headers=headers)


def install(app: FastAPI) -> None:
    """Let an application answer all errors with problem details."""

    async def pipeline_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, PipelineError)
        return await _readable(request, of_pipeline_error(error))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [{"where": ".".join(str(part) for part in one["loc"]), "cause": one["msg"]} for one in error.errors()]
        detail = "; ".join(f"{one['where']}: {one['cause']}" for one in errors[:5])
        step = "correct the request; /api/docs explains each parameter"
        return await _readable(request, problem(422, "InvalidRequest", detail, errors=errors, next_step=step))

    async def invalid_form(request: Request, error: Exception) -> Response:
        """A model that a page makes of a form refuses its fields."""
        assert isinstance(error, ValidationError)
        if not request.url.path.startswith("/ui/"):
            return await unexpected(request, error)
        detail = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
        return await _readable(request, problem(422, "InvalidRequest", detail, next_step="correct the form"))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = problem(
            error.status_code,
            "NotFound" if error.status_code == 404 else "HttpError",
            str(error.detail),
            next_step="all addresses are listed at /api/docs",
            headers=dict(error.headers) if error.headers else None,
        )
        return await _readable(request, answer)

    async def unexpected(request: Request, error: Exception) -> Response:
        _log.error("%s %s", request.method, request.url.path, exc_info=error)
        answer = problem(
            500, "InternalError", "an unexpected error; the API's log has it", next_step="read `logs/api.log` in the state directory"
        )
        return await _readable(request, answer)

    app.add_exception_handler(PipelineError, pipeline_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ValidationError, invalid_form)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(Exception, unexpected)


async def _readable(request: Request, answer: JSONResponse) -> Response:
    """Return an error as a page to somebody who looks at pages; as a part of one to htmx."""
    if not request.url.path.startswith("/ui/"):
        return answer
    from dsa110_assets.api.pages.layout import problem_page

    return await run_in_threadpool(problem_page, request, json.loads(bytes(answer.body)), dict(answer.headers))
