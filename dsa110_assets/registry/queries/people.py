"""Tokens of people, and what they changed through the API (`api_tokens`, `api_actions`)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import ApiAction, ApiToken

PREFIX = "dsa110_"
_LONGEST_NAME = 80
ACTION = (ApiAction.action_id, ApiAction.person, ApiAction.action, ApiAction.subject, ApiAction.details, ApiAction.done_at)


def new_token(session: Session, person: str) -> str:
    """Make a token for a person and return it; only its SHA-256 is kept. An earlier token of the person ends.

    A token has 256 random bits, so a plain hash cannot be reversed by guessing.

    Raises:
        InvalidRequestError: the name is empty or too long.
    """
    name = person.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidRequestError(f"name {person!r}", f"needs 1 to {_LONGEST_NAME} printable characters", "give your name")
    session.execute(update(ApiToken).where(ApiToken.person == name, ApiToken.revoked_at.is_(None)).values(revoked_at=func.now()))
    token = PREFIX + secrets.token_urlsafe(32)
    session.execute(insert(ApiToken).values(token_hash=_hash(token), person=name))
    return token


def person_of(session: Session, token: str) -> str | None:
    """Person to whom a token belongs; None for an unknown or revoked one.

    The token is found by its hash, so the time of the search tells nothing about the token.
    """
    return session.scalar(select(ApiToken.person).where(ApiToken.token_hash == _hash(token), ApiToken.revoked_at.is_(None)))


def revoke_tokens(session: Session, person: str) -> None:
    """End the token of a person.

    Raises:
        NotFoundError: the person has none.
    """
    ended = session.execute(
        update(ApiToken)
        .where(ApiToken.person == person.strip(), ApiToken.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiToken.token_hash)
    ).all()
    if not ended:
        raise NotFoundError(f"token of {person}", "there is none", "list them: `dsa110 api tokens`")


def tokens(session: Session) -> list[dict[str, Any]]:
    """People with a valid token, and since when."""
    statement = select(ApiToken.person, ApiToken.created_at).where(ApiToken.revoked_at.is_(None)).order_by(ApiToken.person)
    return [dict(row) for row in session.execute(statement).mappings()]


def record_action(session: Session, person: str, action: str, subject: str, details: Mapping[str, Any]) -> None:
    """Record what a person changed through the API."""
    session.execute(insert(ApiAction).values(person=person, action=action, subject=subject, details=dict(details)))


def actions(session: Session, *, person: str | None, action: str | None, after: Sequence[Any] | None, limit: int) -> Page:
    """What people changed, newest first."""
    statement = select(*ACTION)
    if person is not None:
        statement = statement.where(ApiAction.person == person)
    if action is not None:
        statement = statement.where(ApiAction.action == action)
    return read_page(session, statement, (ApiAction.action_id,), after=after, limit=limit)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
