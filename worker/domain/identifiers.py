"""Identifiers of users, events, policies and policy versions."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, StringConstraints

# Unicode category Cc. Other invisible characters are allowed: identity providers issue them.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _check(text: str) -> str:
    """Return an identifier unchanged.

    Raises:
        ValueError: It is blank or contains control characters.
    """
    if text.isprintable() and not text.isspace():
        return text
    if not text.strip():
        raise ValueError("must not be blank")
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


# Cached: most messages have one of a few versions.
@lru_cache(maxsize=1024)
def _check_key_part(text: str) -> str:
    if "#" in text:  # separates policy and version in the sort key of an acceptance
        raise ValueError("must not contain '#'")
    return _check(text)


def _length(most: int) -> StringConstraints:
    return StringConstraints(min_length=1, max_length=most)


def _pattern(excluded: str) -> Any:
    return Field(json_schema_extra={"pattern": f"^[^{excluded}\\u0000-\\u001f\\u007f-\\u009f]+$"})


_PATTERN: Final = _pattern("")
_KEY_PATTERN: Final = _pattern("#")
UserId = Annotated[str, _length(256), AfterValidator(_check), _PATTERN]
EventId = Annotated[str, _length(128), AfterValidator(_check), _PATTERN]
PolicyId = Annotated[str, _length(128), AfterValidator(_check_key_part), _KEY_PATTERN]
Version = Annotated[str, _length(64), AfterValidator(_check_key_part), _KEY_PATTERN]
