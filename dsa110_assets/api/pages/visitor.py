"""Who visits the pages. A person signs in once with a token; a cookie that scripts cannot read keeps it.

The cookie is sent to this server's own pages alone (``SameSite=Strict``). Each form also has a value made from the
token, which another site cannot know.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dsa110_assets.api.access import Opened
from dsa110_assets.errors import AccessError, RegistryError
from dsa110_assets.registry.queries import people

COOKIE = "dsa110_token"
CSRF_HEADER = "X-CSRF-Token"


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page; ``person`` is None for somebody who has not signed in. ``csrf`` stands in every form."""

    person: str | None
    csrf: str


def visitor(request: Request) -> Visitor:
    """Return who sends a request. Without the registry nobody is known."""
    token = request.cookies.get(COOKIE)
    if not token:
        return Visitor(None, "")
    try:
        with request.app.state.access.session() as session:
            person = people.person_of(session, token)
    except RegistryError:
        person = None
    return Visitor(person, _csrf(token) if person else "")


def _csrf(token: str) -> str:
    return hmac.digest(token.encode(), b"dsa110 form", "sha256").hex()


async def _token(request: Request) -> str:
    token = request.cookies.get(COOKIE, "")
    given = request.headers.get(CSRF_HEADER) or str((await request.form()).get("csrf") or "")
    if not token or not hmac.compare_digest(given.encode(), _csrf(token).encode()):
        raise AccessError("form", "you are not signed in, or signed in after this page was loaded", "sign in, then load the page again")
    return token


SignedIn = Annotated[str, Depends(_token)]
"""The token of the person who sends a form of this server."""


def _person(opened: Opened, token: SignedIn) -> str:
    with opened.session() as session:
        person = people.person_of(session, token)
    if person is None:
        raise AccessError("token", "is unknown or was revoked", "make a new one with `dsa110 api token NAME`, and sign in again")
    return person


Editor = Annotated[str, Depends(_person)]
"""The person who sends a form. A route with this parameter refuses others, and forms of other sites."""
