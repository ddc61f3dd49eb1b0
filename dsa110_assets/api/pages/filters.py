"""Parameters of pages: those of the API, where a form may also send an empty field."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from dsa110_assets.api.answers import DecDeg, Number, RaDeg, Text


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


EMPTY_IS_NONE = BeforeValidator(_none_if_empty)
"""Forms send the fields that a person left empty."""
FormNumber = Annotated[Number, EMPTY_IS_NONE]
FormText = Annotated[Text, EMPTY_IS_NONE]
FormRa = Annotated[RaDeg, EMPTY_IS_NONE]
FormDec = Annotated[DecDeg, EMPTY_IS_NONE]
