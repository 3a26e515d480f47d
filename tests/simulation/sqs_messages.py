"""SQS messages as stored and as returned by the service."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class State(Enum):
    """State of a message."""

    VISIBLE = auto()
    DELAYED = auto()
    IN_FLIGHT = auto()
    REAPPEARING = auto()  # deleted, but visible again later
    REMOVED = auto()


@dataclass(slots=True, eq=False)
class StoredMessage:
    """Message in a queue."""

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
    """Return the MD5 digest of a body, as SQS does."""
    return hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Any]) -> str:
    """Return the MD5 digest of message attributes, as SQS does."""
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
    """Return the size in bytes that counts towards the message size limit."""
    total = len(body.encode())
    for name, attribute in attributes.items():
        value = attribute.get("BinaryValue") or attribute.get("StringValue", "").encode()
        total += len(name.encode()) + len(attribute["DataType"]) + len(value)
    return total


def to_response(
    message: StoredMessage,
    attribute_names: Iterable[str],
    system_attribute_names: Iterable[str],
) -> dict[str, Any]:
    """Return an element of `Messages` in a receive response."""
    response: dict[str, Any] = {
        "MessageId": message.message_id,
        "ReceiptHandle": message.receipt_handle,
        "MD5OfBody": message.body_md5,
        "Body": message.body,
    }
    if message.attributes:
        wanted = _selected(message.attributes, attribute_names)
        if wanted:
            response["MessageAttributes"] = wanted
            response["MD5OfMessageAttributes"] = attributes_md5(wanted)
    if system_attribute_names:
        response["Attributes"] = _system_attributes(message, system_attribute_names)
    return response


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
