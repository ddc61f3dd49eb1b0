"""Fields of forms in addresses. An empty field is none: browsers send every field of a form, also those left empty."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import Field

from dsa110_assets.api.pages.filters import EMPTY_IS_NONE
from dsa110_assets.common.position_lists import position_of
from dsa110_assets.errors import InvalidRequestError

T = TypeVar("T")


Optional = Annotated[T | None, EMPTY_IS_NONE]
"""A value, or an empty field. Limits belong to the value: ``Optional[Annotated[float, Field(gt=0)]]``."""
When = Optional[datetime]
Decimal = Optional[Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]]
Size = Optional[Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]]
Words = Optional[Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]]


def position(text: str | None) -> tuple[float, float] | tuple[None, None]:
    """Right ascension and declination, degrees, of a field; two None for an empty one.

    Raises:
        InvalidRequestError: the text is no position.
    """
    if text is None:
        return None, None
    found = position_of(text)
    if found is None:
        raise InvalidRequestError("position", f"{text[:80]!r} is none", "write it as 08:34:54.9 +55:34:21 or 128.729 +55.572 (ICRS)")
    return found
