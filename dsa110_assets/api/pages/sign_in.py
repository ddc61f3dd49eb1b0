"""Signing in with a token, and out."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Bearer, Opened
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.visitor import COOKIE, SignedIn
from dsa110_assets.errors import AccessError
from dsa110_assets.registry.queries import people

_ONE_MONTH_S = 30 * 86400
_OURS = ("/ui/", "/docs/", "/dagster/", "/api/docs")
"""What the cookie opens at a front door."""
router = APIRouter()


@router.get("/ui/sign-in")
def sign_in_page(request: Request, to: str = "/ui/dashboard") -> Response:
    """Ask for a token."""
    return page(request, "sign_in.html", to=_own(to), wrong="")


@router.post("/ui/sign-in")
def sign_in(
    request: Request, opened: Opened, token: Annotated[str, Form(max_length=200)], to: Annotated[str, Form(max_length=500)] = ""
) -> Response:
    """Keep a token in a cookie, if it is somebody's. A form of another site is refused."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise AccessError("form", "comes from another site", "open the sign-in page of this server")
    with opened.session() as session:
        person = people.person_of(session, token.strip())
    if person is None:
        return page(request, "sign_in.html", status=401, to=_own(to), wrong="This token is unknown or was revoked.")
    answer = RedirectResponse(_own(to), 303)
    secure = request.headers.get("X-Forwarded-Proto", request.url.scheme) == "https"
    answer.set_cookie(COOKIE, token.strip(), max_age=_ONE_MONTH_S, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@router.get("/ui/session")
def session(request: Request, opened: Opened, given: Bearer) -> Response:
    """Tell a front door whether a request is that of a person: by the cookie, or by a token as for the API."""
    token = given.credentials if given is not None else request.cookies.get(COOKIE, "")
    with opened.session() as session:
        person = people.person_of(session, token) if token else None
    return Response(status_code=401 if person is None else 204)


@router.post("/ui/sign-out")
def sign_out(_: SignedIn) -> Response:
    """Forget the token in this browser. It stays valid elsewhere."""
    answer = RedirectResponse("/ui/sign-in", 303)
    answer.delete_cookie(COOKIE, path="/")
    return answer


def _own(to: str) -> str:
    """An address of this server; the dashboard for any other."""
    parts = urlsplit(to)
    return to if not parts.scheme and not parts.netloc and to.startswith(_OURS) and to.isprintable() else "/ui/dashboard"
