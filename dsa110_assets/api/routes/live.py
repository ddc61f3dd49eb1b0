"""Which subjects have changed, for pages that stay open: at once as JSON, or as a stream of server-sent events."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from dsa110_assets.api.events import MOST_LISTENERS, Events
from dsa110_assets.api.problems import problem

router = APIRouter()
_STREAM = "text/event-stream"
_ANSWERS: dict[int | str, dict[str, Any]] = {200: {"model": dict[str, str], "content": {_STREAM: {"schema": {"type": "string"}}}}}


@router.get("/api/events", tags=["operation"], responses=_ANSWERS, response_class=JSONResponse)
async def events(request: Request) -> Response:
    """A mark for each subject (observations, files, products, candidates, alerts, shift, actions) that changes with it.

    With `Accept: text/event-stream`, as a browser's EventSource asks, a stream: an event `state` at once and after each
    change, at most every two seconds, and a comment every 15 s. It ends after 15 minutes; connect again. `registry` is
    `up` or `down`.
    """
    found: Events = request.app.state.events
    if _STREAM not in request.headers.get("accept", ""):
        return JSONResponse(await run_in_threadpool(found.now))
    if found.is_full:
        step = "close pages that nobody looks at, or ask for JSON"
        return problem(503, "TooManyListeners", f"{MOST_LISTENERS} listen already", next_step=step, headers={"Retry-After": "30"})
    return StreamingResponse(found.stream(), media_type=_STREAM, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
