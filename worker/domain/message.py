"""Messages received from SQS and messages to send."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

# Amazon SQS developer guide, "Message quotas": the limit for body and attributes together, of a
# message and of a batch. A queue may set a lower limit per message (MaximumMessageSize).
MESSAGE_MAX_BYTES: Final = 1_048_576
BATCH_MAX_ENTRIES: Final = 10
ATTRIBUTES_MAX: Final = 10
# Amazon SQS API reference, SendMessage: characters outside this set are rejected.
_REJECTED: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


# Not a dataclass: creating a frozen one takes ten times as long.
class ReceivedMessage(msgspec.Struct, frozen=True):
    """A message as returned by one receive call.

    Attributes:
        message_id: The same in every receive.
        receipt_handle: Different in every receive; only the latest one settles the message.
        body: The body, unchanged.
        attributes: Message attributes in the format of the SQS API.
        sent_ms: `SentTimestamp`, in milliseconds since 1970; 0 if SQS does not return it.
        first_received_ms: `ApproximateFirstReceiveTimestamp`, in the same way.
        receive_count: `ApproximateReceiveCount`, this receive included.
        trace_header: AWS X-Ray trace header, which does not count as a message attribute.
        group_id: Message group ID; identifies the tenant in a fair queue.
        date: Date header of the response; empty if absent.
    """

    message_id: str
    receipt_handle: str
    body: str
    sent_ms: int = 0
    first_received_ms: int = 0
    receive_count: int = 1
    attributes: Mapping[str, Any] = msgspec.field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None
    date: str = ""

    @property
    def sent_at(self) -> datetime:
        """`SentTimestamp`; 1970 if SQS does not return it."""
        return datetime.fromtimestamp(self.sent_ms / 1000, UTC)

    @property
    def first_received_at(self) -> datetime:
        """`ApproximateFirstReceiveTimestamp`; 1970 if SQS does not return it."""
        return datetime.fromtimestamp(self.first_received_ms / 1000, UTC)

    @property
    def memory_bytes(self) -> int:
        """The memory that the body and the attributes occupy, in bytes."""
        size = sys.getsizeof(self.body)
        if self.attributes:
            size += sum(_attribute_bytes(name, value) for name, value in self.attributes.items())
        return size


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to send, with everything that must be preserved."""

    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_header: str | None = None
    group_id: str | None = None

    @property
    def size_bytes(self) -> int:
        """The size that SQS limits: the body, and the names, types and values of attributes."""
        return len(self.body.encode("utf-8", "surrogatepass")) + sum(
            _attribute_bytes(name, value) for name, value in self.attributes.items()
        )

    def why_refused(self, max_bytes: int = MESSAGE_MAX_BYTES) -> str:
        """Return why SQS would reject the message, in one line without its content; else "".

        Args:
            max_bytes: The queue's MaximumMessageSize.
        """
        if not self.body:
            return "empty: SQS requires at least one character"
        texts = [("", self.body)]
        texts += [
            (f"attribute {name!a}: ", str(value.get("StringValue", "")))
            for name, value in self.attributes.items()
        ]
        for prefix, text in texts:
            rejected = _REJECTED.search(text)
            if rejected is not None:
                character = f"U+{ord(rejected[0]):04X} at character {rejected.start() + 1:,}"
                return f"{prefix}SQS rejects {character}: remove it or write it as a JSON escape"
        size = self.size_bytes
        if size > max_bytes:
            return f"{size:,} bytes: the queue accepts at most {max_bytes:,} (MaximumMessageSize)"
        if len(self.attributes) > ATTRIBUTES_MAX:
            return f"more than {ATTRIBUTES_MAX} attributes"
        return ""


def _attribute_bytes(name: str, value: Mapping[str, Any]) -> int:
    content = value.get("BinaryValue")
    if content is None:
        content = str(value.get("StringValue", "")).encode("utf-8", "surrogatepass")
    return len(name.encode()) + len(str(value["DataType"]).encode()) + len(content)
