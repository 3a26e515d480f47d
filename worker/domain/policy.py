"""Published policy versions."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

# Unicode category Cc. Other invisible characters are allowed: identity providers issue them.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def check_identifier(text: str) -> str:
    """Return an identifier of a user, event, policy or version unchanged.

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
    return check_identifier(text)


def _pattern(excluded: str) -> Any:
    return Field(json_schema_extra={"pattern": f"^[^{excluded}\\u0000-\\u001f\\u007f-\\u009f]+$"})


IDENTIFIER_PATTERN: Final = _pattern("")
_KEY_PART_PATTERN: Final = _pattern("#")
PolicyId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    AfterValidator(_check_key_part),
    _KEY_PART_PATTERN,
]
Version = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    AfterValidator(_check_key_part),
    _KEY_PART_PATTERN,
]


class Policy(BaseModel):
    """A policy version: its text never changes, but it can be retired.

    Times are aware. A version is in force from `effective_at` until `retired_at`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    policy_id: PolicyId
    version: Version
    title: Annotated[str, Field(max_length=1024)]
    content_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    published_at: AwareDatetime
    effective_at: AwareDatetime
    retired_at: AwareDatetime | None = None

    def in_force_at(self, moment: datetime) -> bool:
        """Return whether this version is in force at a time."""
        return self.effective_at <= moment and (self.retired_at is None or moment < self.retired_at)

    def same_text(self, other: Policy) -> bool:
        """Return whether both have the same ids, title and text, regardless of times."""
        return (self.policy_id, self.version, self.title, self.content_sha256) == (
            other.policy_id,
            other.version,
            other.title,
            other.content_sha256,
        )


def in_force(policies: list[Policy], moment: datetime) -> Policy | None:
    """Return the version in force: of those not retired, the one that became effective last."""
    candidates = [policy for policy in policies if policy.in_force_at(moment)]
    return max(candidates, key=lambda policy: (policy.effective_at, policy.version), default=None)
