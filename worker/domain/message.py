"""One handing-out of a message by SQS, its fate, and a message on its way out."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from worker.errors import Reason

# Amazon SQS developer guide, "Message quotas": body and attributes together, of a message and of a
# batch. A queue may allow less for each message: its MaximumMessageSize.
MESSAGE_MAX_BYTES: Final = 1_048_576
BATCH_MAX_ENTRIES: Final = 10
ATTRIBUTES_MAX: Final = 10
# Amazon SQS API reference, SendMessage: characters outside this set are refused.
_REFUSED: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message as SQS handed it out once.

    Attributes:
        message_id: stays the same at every handing-out.
        receipt_handle: differs at every handing-out; only the newest one settles.
        body: the message, unchanged.
        attributes: message attributes in SQS's own form.
        sent_at: when SQS took the message; 1970 if it does not say.
        first_received_at: when SQS first handed it out; the same.
        receive_count: how often SQS has handed it out, this time included; approximate.
        trace_header: AWS X-Ray's header, which counts as no attribute.
        group_id: the tenant of a fair queue.
        date: the Date header of the response that brought it; empty if there was none.
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_at: datetime
    first_received_at: datetime
    receive_count: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None
    date: str = ""

    @property
    def memory_bytes(self) -> int:
        """What its body and attributes take in memory."""
        size = sys.getsizeof(self.body)
        if self.attributes:
            size += sum(_attribute_bytes(name, value) for name, value in self.attributes.items())
        return size


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to be sent, with everything that must survive the journey."""

    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """What SQS counts against its limits: the body, and attributes with names and types."""
        return len(self.body.encode("utf-8", "surrogatepass")) + sum(
            _attribute_bytes(name, value) for name, value in self.attributes.items()
        )

    def why_refused(self, max_bytes: int = MESSAGE_MAX_BYTES) -> str:
        """Return why SQS would refuse the message, in one line without its content; empty if not.

        Args:
            max_bytes: The queue's MaximumMessageSize.
        """
        if not self.body:
            return "empty: SQS needs at least one character"
        texts = [("", self.body)]
        texts += [
            (f"attribute {name!a}: ", str(value.get("StringValue", "")))
            for name, value in self.attributes.items()
        ]
        for place, text in texts:
            refused = _REFUSED.search(text)
            if refused is not None:
                character = f"U+{ord(refused[0]):04X} at character {refused.start() + 1:,}"
                return f"{place}SQS refuses {character}: remove it, or write it as a JSON escape"
        size = self.size_bytes
        if size > max_bytes:
            return f"{size:,} bytes: the queue takes at most {max_bytes:,} (MaximumMessageSize)"
        if len(self.attributes) > ATTRIBUTES_MAX:
            return f"more than {ATTRIBUTES_MAX} attributes"
        return ""


def _attribute_bytes(name: str, value: Mapping[str, Any]) -> int:
    content = value.get("BinaryValue")
    if content is None:
        content = str(value.get("StringValue", "")).encode("utf-8", "surrogatepass")
    return len(name.encode()) + len(str(value["DataType"]).encode()) + len(content)


class OutcomeKind(StrEnum):
    """How a delivery ended."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "dead"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one delivery and what explains it.

    Attributes:
        reason: set when it is dead.
        detail: one line for a person.
        delay_seconds: set when it is returned: how long SQS keeps it from the next receiver.
    """

    kind: OutcomeKind
    reason: Reason | None = None
    detail: str = ""
    delay_seconds: float = 0.0

    @classmethod
    def dead_lettered(cls, reason: Reason, detail: str) -> Outcome:
        """Say that the message can never be recorded."""
        return cls(OutcomeKind.DEAD_LETTERED, reason=reason, detail=_one_line(detail))

    @classmethod
    def returned(cls, detail: str, delay_seconds: float = 0.0) -> Outcome:
        """Say that the message goes back to the queue."""
        return cls(OutcomeKind.RETURNED, detail=_one_line(detail), delay_seconds=delay_seconds)


def _one_line(text: str) -> str:
    # It may name an identifier, and so hold whatever separates lines.
    return " ".join(text.split())


RECORDED: Final = Outcome(OutcomeKind.RECORDED)
DUPLICATE: Final = Outcome(OutcomeKind.DUPLICATE)
