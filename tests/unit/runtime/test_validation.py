"""Texts of validation errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from worker.runtime.validation import describe


def _rejected(_: str) -> str:
    raise ValueError("Must be a valid time")


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (int, "soon", "must be an integer"),
        (int, 1.5, "must be an integer"),
        (bool, "perhaps", "must be a boolean"),
        (float, "x", "must be a number"),
        (str, 7, "must be a string"),
        (Annotated[str, Field(min_length=1)], "\ud800", "must be UTF-8"),
        (Annotated[float, Field(allow_inf_nan=False)], "nan", "must be a finite number"),
        (Annotated[int, Field(le=20)], 21, "must be less than or equal to 20"),
        (Annotated[str, Field(min_length=1)], "", "must have at least 1 character"),
        (Annotated[str, Field(pattern="^a$")], "b", "must match pattern '^a$'"),
        (Literal["auto", "json"], "xml", "must be 'auto' or 'json'"),
        (Annotated[str, AfterValidator(_rejected)], "x", "must be a valid time"),
    ],
)
def test_text_states_the_requirement(kind: Any, value: Any, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    (problem,) = caught.value.errors()
    assert describe(problem) == text
