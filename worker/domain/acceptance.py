"""The fact that is kept: a user accepted a version of a policy at a time."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from worker.domain.policy import IDENTIFIER_PATTERN, PolicyId, Version, check_identifier

# A DynamoDB item holds 400 KB at most; the named fields take under 20 KB of it.
EXTRA_MAX_BYTES: Final = 350_000

# Hours, minutes and offsets are limited here, since Python's own limits vary by release.
_RFC3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_LEAP_SECOND_MINUTE: Final = 23 * 60 + 59
_DAY_MINUTES: Final = 24 * 60


# Checked once as a field and once against the clock; and those of a busy hour are alike.
@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 time, which always states its offset.

    Returns:
        An aware time, to the microsecond; a leap second counts as the last microsecond before it.

    Raises:
        ValueError: the text is not such a time, or before the year 1.

    Source: RFC 3339, sections 5.6 and 5.7.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 time with an offset, such as 2026-11-22T10:00:00Z")
    if text[17:19] == "60":
        text = _before_leap_second(text)
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise ValueError(f"not a valid time: {error}") from None


def _before_leap_second(text: str) -> str:
    offset = text[-1] if text[-1] in "Zz" else text[-6:]
    minute = 60 * int(text[11:13]) + int(text[14:16])
    if len(offset) > 1:
        minutes = 60 * int(offset[1:3]) + int(offset[4:])
        minute -= minutes if offset[0] == "+" else -minutes
    if minute % _DAY_MINUTES != _LEAP_SECOND_MINUTE:
        raise ValueError("not a valid time: a leap second is 23:59:60 in UTC")
    return f"{text[:17]}59.999999{offset}"


def _check_time(text: str) -> str:
    parse_time(text)
    return text


UserId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    AfterValidator(check_identifier),
    IDENTIFIER_PATTERN,
]
EventId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    AfterValidator(check_identifier),
    IDENTIFIER_PATTERN,
]
Time = Annotated[
    str,
    # RFC 3339 bounds no fraction, a record does.
    StringConstraints(max_length=256),
    AfterValidator(_check_time),
    Field(json_schema_extra={"format": "date-time"}),
]
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


class Acceptance(BaseModel):
    """One user's acceptance of one version of a policy, as the application stated it.

    Values are kept exactly as they came. Fields that are not named here are kept too, see `extra`.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", title="Acceptance")

    event_id: Annotated[
        EventId, Field(description="Identifies the act of accepting, once and for all.")
    ]
    user_id: Annotated[UserId, Field(description="Who accepted.")]
    policy_id: Annotated[PolicyId, Field(description="Which policy.")]
    version: Annotated[Version, Field(description="Which version of it.")]
    accepted_at: Annotated[Time, Field(description="When: RFC 3339 with an offset.")]
    content_sha256: Annotated[
        SHA256 | None, Field(description="SHA-256 of the text shown, in hexadecimal.")
    ] = None
    locale: Annotated[str | None, Field(max_length=64, description="Language shown.")] = None
    method: Annotated[
        str | None, Field(max_length=64, description="How it was accepted, such as clickwrap.")
    ] = None
    channel: Annotated[
        str | None, Field(max_length=64, description="Where, such as web or ios.")
    ] = None
    ip: Annotated[str | None, Field(max_length=64, description="The user's address.")] = None
    user_agent: Annotated[str | None, Field(max_length=1024, description="The user's client.")] = (
        None
    )
    session_id: Annotated[str | None, Field(max_length=256, description="The user's session.")] = (
        None
    )
    on_behalf_of: Annotated[
        str | None, Field(max_length=256, description="Whom the user acts for.")
    ] = None

    @model_validator(mode="after")
    def _bounded_extra(self) -> Self:
        extra = self.model_extra
        if not extra:
            return self
        if not _in_range(extra):
            raise ValueError("a number is out of range")
        if len(self.extra.encode()) > EXTRA_MAX_BYTES:
            raise ValueError(f"unknown fields exceed {EXTRA_MAX_BYTES} bytes in all")
        return self

    @property
    def policy_version(self) -> str:
        """The sort key of the acceptance in the users' table."""
        return f"{self.policy_id}#{self.version}"

    @property
    def extra(self) -> str:
        """The fields that we do not know, as one JSON object; empty where there are none.

        Kept as text, because DynamoDB's own numbers and nesting are narrower than JSON's.

        Raises:
            ValueError: a number is beyond what JSON can state again.
        """
        if not self.model_extra:
            return ""
        return json.dumps(
            self.model_extra, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )

    def stated(self) -> dict[str, str]:
        """Give every field that the application stated, absent ones left out."""
        fields = {name: value for name, value in self.__dict__.items() if value is not None}
        if self.model_extra:
            fields["extra"] = self.extra
        return fields


def _in_range(value: object) -> bool:
    """Say whether whole numbers are within a double's range; writing longer ones takes too long."""
    if isinstance(value, int):
        return value.bit_length() <= sys.float_info.max_exp
    if isinstance(value, dict):
        return all(map(_in_range, value.values()))
    return not isinstance(value, list) or all(map(_in_range, value))
