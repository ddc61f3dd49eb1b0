"""Fields of forms in addresses. An empty field is none: browsers send every field of a form, also those left empty."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field

from dsa110_assets.api import answers

T = TypeVar("T")


def _none_if_empty(value: Any) -> Any:
    return None if value == "" else value


EMPTY_IS_NONE = BeforeValidator(_none_if_empty)
"""Forms send the fields that a person left empty."""
Optional = Annotated[T | None, EMPTY_IS_NONE]
"""A value, or an empty field. Limits belong to the value: ``Optional[Annotated[float, Field(gt=0)]]``."""
When = Optional[answers.Moment]
Size = Optional[Annotated[float, Field(gt=0, le=600, allow_inf_nan=False)]]
Number = Annotated[answers.Number, EMPTY_IS_NONE]
Order = Annotated[answers.Order, EMPTY_IS_NONE]
Text = Annotated[answers.Text, EMPTY_IS_NONE]
Ra = Annotated[answers.RaDeg, EMPTY_IS_NONE]
Dec = Annotated[answers.DecDeg, EMPTY_IS_NONE]
