"""Acceptance of a policy version by a user, as the application reports it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property, lru_cache
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from worker.domain import strict_json
from worker.domain.identifiers import EventId, PolicyId, UserId, Version

# A DynamoDB item is limited to 400 KB; the named fields need less than 20 KB.
EXTRA_MAX_BYTES: Final = 350_000
_BITS_MAX: Final = sys.float_info.max_exp

# The pattern limits hours, minutes and offsets, because Python's limits differ between versions.
_RFC3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt](?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?"
    r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_LEAP_SECOND_MINUTE: Final = 23 * 60 + 59
_DAY_MINUTES: Final = 24 * 60


# Cached: a field is parsed twice, for validation and for comparison with the clock.
@lru_cache(maxsize=4096)
def parse_time(text: str) -> datetime:
    """Parse an RFC 3339 time.

    Returns:
        An aware datetime in microseconds; a leap second becomes the microsecond before it.

    Raises:
        ValueError: The text is not an RFC 3339 time with an offset, or is before the year 1.

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


Time = Annotated[
    str,
    # RFC 3339 does not limit the fraction, but a record has limited space.
    StringConstraints(max_length=256),
    AfterValidator(_check_time),
    Field(json_schema_extra={"format": "date-time"}),
]
SHA256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")]


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Acceptance(BaseModel):
    """Acceptance of one policy version by one user.

    Values are kept exactly as received. Unknown fields are kept as well.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow", title="Acceptance")

    event_id: EventId = Field(description="Unique id of the acceptance.")
    user_id: UserId = Field(description="User who accepted.")
    policy_id: PolicyId = Field(description="Policy id.")
    version: Version = Field(description="Policy version.")
    accepted_at: Time = Field(description="Time of the acceptance, RFC 3339 with an offset.")
    content_sha256: SHA256 | None = Field(
        None, description="SHA-256 of the text shown to the user, in hexadecimal."
    )
    locale: str | None = Field(
        None, max_length=64, description="Language of the text shown to the user."
    )
    method: str | None = Field(
        None, max_length=64, description="Method of acceptance, such as clickwrap."
    )
    channel: str | None = Field(None, max_length=64, description="Channel, such as web or ios.")
    ip: str | None = Field(None, max_length=64, description="IP address of the user.")
    user_agent: str | None = Field(
        None, max_length=1024, description="User agent of the user's client."
    )
    session_id: str | None = Field(None, max_length=256, description="Session id of the user.")
    on_behalf_of: str | None = Field(
        None, max_length=256, description="Party on whose behalf the user accepts."
    )

    @model_validator(mode="after")
    def _check_extra(self) -> Self:
        extra = self.__pydantic_extra__  # each message passes here: `model_extra` is a call
        if extra:
            _check_numbers(extra.values())
            _check_size(_encode(extra))
        return self

    @classmethod
    def of_message(cls, fields: Mapping[str, Any]) -> Self:
        """Validate the fields of a message.

        Unknown fields are not checked for their size; `keep_text` does that. With many of them,
        `model_validate` takes twice the time.

        Raises:
            ValidationError: A named field is not valid.
            ValueError: A number in an unknown field is out of range.
        """
        named = {name: fields[name] for name in NAMES if name in fields}
        acceptance = cls.model_validate(named)
        if len(named) < len(fields):
            unknown = dict(fields)
            for name in named:
                del unknown[name]
            _check_numbers(unknown.values())
            object.__setattr__(acceptance, "__pydantic_extra__", unknown)
        return acceptance

    def keep_text(self, text: str) -> None:
        """Keep the values of unknown fields as the producer wrote them.

        Args:
            text: All fields of the message as a JSON object.

        Raises:
            ValueError: They are larger than a record can hold.
        """
        self.__dict__["extra"] = extra = strict_json.without(text, NAMES)
        _check_size(extra)

    def count_strings(self) -> int:
        """Return the number of strings in the JSON object that this has been validated from.

        Names are included. Duplicate names are counted once, and lost strings not at all.
        """
        values = list(self.__dict__.values())
        count = len(self.__pydantic_fields_set__) + len(values) - values.count(None)
        extra = self.__pydantic_extra__
        return count + strict_json.strings_of(extra) - len(extra) if extra else count

    @property
    def policy_version(self) -> str:
        """The sort key in the table of acceptances."""
        return f"{self.policy_id}#{self.version}"

    @cached_property
    def extra(self) -> str:
        """The unknown fields as one JSON object; empty without unknown fields.

        It is text, because DynamoDB limits numbers and nesting more than JSON does. Values from a
        message are written as they came.
        """
        return _encode(self.model_extra) if self.model_extra else ""

    def stated(self) -> dict[str, str]:
        """Return the fields that are present in the message."""
        fields = self.__dict__.copy()
        for name in _OPTIONAL:
            if fields[name] is None:
                del fields[name]
        if self.__pydantic_extra__:
            fields["extra"] = self.extra
        return fields


NAMES: Final = tuple(Acceptance.model_fields)
_OPTIONAL: Final = tuple(
    name for name, field in Acceptance.model_fields.items() if not field.is_required()
)


def _check_numbers(values: Iterable[Any]) -> None:
    """Raise ValueError if a number is out of the range of a double; some readers lose it.

    Writing a long integer is slow, too.
    """
    for each in values:
        kind = type(each)
        if kind is str:
            continue
        if kind is dict:
            _check_numbers(each.values())
        elif kind is list:
            _check_numbers(each)
        elif (kind is int and each.bit_length() > _BITS_MAX) or (
            kind is float and not math.isfinite(each)
        ):
            raise ValueError("a number is out of range")


def _check_size(extra: str) -> None:
    if len(extra.encode()) > EXTRA_MAX_BYTES:
        raise ValueError(f"must not exceed {EXTRA_MAX_BYTES} bytes in total")
