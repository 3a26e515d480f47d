"""Keep one SQS message and what the service tells about it."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class State(Enum):
    """Name where a message is."""

    VISIBLE = auto()
    DELAYED = auto()
    IN_FLIGHT = auto()
    REAPPEARING = auto()  # deleted, but one server has not heard of it
    GONE = auto()


@dataclass(slots=True, eq=False)
class StoredMessage:
    """Hold a message in a queue."""

    number: int
    message_id: str
    body: str
    body_md5: str
    attributes: dict[str, Any]
    system_attributes: dict[str, str]
    sent_at: float
    state: State = State.VISIBLE
    visible_at: float = 0.0
    received_at: float = 0.0
    first_received_at: float = 0.0
    receive_count: int = 0
    receipt_handle: str = ""


def body_md5(body: str) -> str:
    """Digest a body as SQS does."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Any]) -> str:
    """Digest message attributes as SQS does."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        binary = attribute["DataType"].startswith("Binary")
        value = attribute["BinaryValue"] if binary else attribute["StringValue"].encode()
        for part in (name.encode(), attribute["DataType"].encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update(b"\x02" if binary else b"\x01")
        digest.update(struct.pack(">I", len(value)) + value)
    return digest.hexdigest()


def size(body: str, attributes: Mapping[str, Any]) -> int:
    """Count the bytes that the size limit counts."""
    total = len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("BinaryValue") or attribute.get("StringValue", "").encode()
        total += len(name.encode()) + len(attribute["DataType"]) + len(value)
    return total


def handed_out(
    message: StoredMessage,
    attribute_names: Iterable[str],
    system_attribute_names: Iterable[str],
) -> dict[str, Any]:
    """Make the element of a receive's `Messages`."""
    answer: dict[str, Any] = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    }
    if message.attributes:
        wanted = _selected(message.attributes, attribute_names)
        if wanted:
            answer["MessageAttributes"] = wanted
            answer["MD5OfMessageAttributes"] = attributes_md5(wanted)
    if system_attribute_names:
        answer["Attributes"] = _system_attributes(message, system_attribute_names)
    return answer


def _selected(attributes: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    for pattern in names:
        everything = pattern in ("All", ".*")
        prefix = pattern[:-2] if pattern.endswith(".*") else None
        for name, value in attributes.items():
            if everything or name == pattern or (prefix and name.startswith(prefix)):
                wanted[name] = dict(value)
    return wanted


def _system_attributes(message: StoredMessage, names: Iterable[str]) -> dict[str, str]:
    known = message.system_attributes | {
        "SenderId": "AIDASIMULATED",
        "SentTimestamp": _milliseconds(message.sent_at),
        "ApproximateReceiveCount": str(message.receive_count),
        "ApproximateFirstReceiveTimestamp": _milliseconds(message.first_received_at),
    }
    if "All" in names:
        return known
    return {name: known[name] for name in names if name in known}


def _milliseconds(timestamp: float) -> str:
    return str(round(timestamp * 1000))
