"""Message groups of fair queues: the tenant of each message, so that none delays the others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Self

from worker.domain.acceptance import Acceptance
from worker.domain.evidence import ERASABLE

# Amazon SQS API reference, SendMessage, MessageGroupId: up to 128 ASCII letters, digits and
# punctuation characters.
_GROUP: Final = re.compile(r"[!-~]{1,128}")
_GROUP_REQUIREMENT: Final = (
    "must be 1 to 128 ASCII letters, digits and punctuation characters (MessageGroupId)"
)
_EXTRA: Final = "extra."


@dataclass(frozen=True, slots=True)
class MessageGroup:
    """The MessageGroupId of every message, or the field of an acceptance that contains it.

    Attributes:
        value: Group of every message; None if a field contains it.
        field: Name of the field; an unknown field of the message has the prefix `extra.`.
    """

    value: str | None = None
    field: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the group that a text states: the name of a field, or else a value.

        Raises:
            ValueError: The field is private, or SQS would reject the value.
        """
        if text in ERASABLE:
            raise ValueError("private fields cannot be groups, which no erasure reaches")
        if text in Acceptance.model_fields or (text.startswith(_EXTRA) and text != _EXTRA):
            return cls(field=text)
        return cls(_check(text))

    def of(self, acceptance: Acceptance) -> str | None:
        """Return the group of an acceptance; None if it has no such field.

        SQS takes each message without a group for a tenant of its own.

        Raises:
            ValueError: SQS would reject the value of the field.
        """
        if self.value is not None:
            return self.value
        if self.field.startswith(_EXTRA):
            found = (acceptance.model_extra or {}).get(self.field.removeprefix(_EXTRA))
        else:
            found = getattr(acceptance, self.field)
        try:
            return None if found is None else _check(_text(found))
        except ValueError as problem:
            raise ValueError(f"{self.field}: {problem}") from None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError("must be a string or an integer to be a group")


def _check(text: str) -> str:
    if not _GROUP.fullmatch(text):
        raise ValueError(_GROUP_REQUIREMENT)
    return text
