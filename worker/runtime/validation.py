"""Texts of pydantic's validation errors in the wording of this program."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_SUBJECT: Final = re.compile(r"(?:Input|String) should (?=be |have |match )")
_VALID: Final = re.compile(r"\ba valid (?P<noun>\w+)(?:, .+)?")


def describe(problem: ErrorDetails) -> str:
    """Return what is wrong with a value, without the value.

    Args:
        problem: One of `ValidationError.errors()`.

    Returns:
        Words that follow a name and a colon, such as "must be an integer".
    """
    if problem["type"] == "string_unicode":
        return "must be UTF-8"
    if problem["type"] == "value_error":
        text = problem["msg"].removeprefix("Value error, ")
    else:
        text = _VALID.sub(_noun, _SUBJECT.sub("must ", problem["msg"]))
    return text[:1].lower() + text[1:]


def _noun(found: re.Match[str]) -> str:
    noun = found["noun"]
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
