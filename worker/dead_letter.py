"""The format of a dead letter: the original message plus one attribute that says why."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from worker import __version__
from worker.delivery import ATTRIBUTES_MAX, MESSAGE_MAX_BYTES, Delivery, OutgoingMessage

ATTRIBUTE: Final = "aup.dead_letter"
DETAIL_MAX_CHARACTERS: Final = 500


@dataclass(frozen=True, slots=True)
class Death:
    """Why, when and what was dead-lettered, as the attribute tells it.

    Attributes:
        reason: the code of a `Reason`, or of a later version of this program.
        message_id: what SQS called the original message.
        folded: attributes of the original that found no room beside this one.
    """

    reason: str
    detail: str = ""
    message_id: str = ""
    sent_at: str = ""
    receive_count: int = 0
    worker_version: str = __version__
    folded: Mapping[str, Any] = field(default_factory=dict)


def bury(delivery: Delivery, reason: str, detail: str, *, dead_at: datetime) -> OutgoingMessage:
    """Write the dead letter of a delivery.

    The body stays byte for byte, and all attributes are kept: where there are ten already, the
    smallest moves into ours, from which `original` restores it. Near the size limit the
    attribute shrinks to the bare reason, and at the limit it is left out: the body goes first.

    Args:
        delivery: what cannot be recorded.
        reason: code of a `Reason`.
        detail: one line for a person.
        dead_at: now, for whoever reads it.
    """
    plain = original(delivery)  # it may have died before
    attributes = dict(plain.attributes)
    folded: dict[str, Any] = {}
    while len(attributes) >= ATTRIBUTES_MAX:
        name = min(attributes, key=lambda name: len(str(attributes[name])))
        folded[name] = _packed(attributes.pop(name))
    note: dict[str, Any] = {
        "reason": reason,
        "detail": " ".join(detail.split())[:DETAIL_MAX_CHARACTERS],
        "message_id": delivery.message_id,
        "sent_at": delivery.sent_at.isoformat(timespec="milliseconds"),
        "receive_count": delivery.receive_count,
        "dead_at": dead_at.isoformat(timespec="milliseconds"),
        "worker_version": __version__,
    }
    kept = {"attributes": folded} if folded else {}
    for content in (note | kept, {"reason": reason} | kept):
        letter = replace(plain, attributes=attributes | {ATTRIBUTE: _string(content)})
        if letter.size_bytes <= MESSAGE_MAX_BYTES:
            return letter
    return plain


def read(delivery: Delivery) -> Death | None:
    """Read why a dead letter died; None where nobody says, as after a redrive by SQS itself."""
    value = delivery.attributes.get(ATTRIBUTE, {}).get("StringValue")
    if value is None:
        return None
    try:
        note = json.loads(value)
        return Death(
            reason=str(note["reason"]),
            detail=str(note.get("detail", "")),
            message_id=str(note.get("message_id", "")),
            sent_at=str(note.get("sent_at", "")),
            receive_count=int(note.get("receive_count", 0)),
            worker_version=str(note.get("worker_version", "")),
            folded={name: _unpacked(each) for name, each in note.get("attributes", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def original(delivery: Delivery) -> OutgoingMessage:
    """Restore the message as it was before it was dead-lettered."""
    death = read(delivery)
    attributes = {name: value for name, value in delivery.attributes.items() if name != ATTRIBUTE}
    return OutgoingMessage(
        body=delivery.body,
        attributes=attributes | dict(death.folded if death else {}),
        trace_header=delivery.trace_header,
        group_id=delivery.group_id,
    )


def _string(content: Mapping[str, Any]) -> dict[str, str]:
    text = json.dumps(content, separators=(",", ":"))
    return {"DataType": "String", "StringValue": text}


def _packed(value: Mapping[str, Any]) -> dict[str, str]:
    if "BinaryValue" in value:
        content = base64.b64encode(value["BinaryValue"]).decode()
        return {"DataType": value["DataType"], "Base64": content}
    return {"DataType": value["DataType"], "StringValue": value.get("StringValue", "")}


def _unpacked(value: Mapping[str, str]) -> dict[str, Any]:
    if "Base64" in value:
        return {"DataType": value["DataType"], "BinaryValue": base64.b64decode(value["Base64"])}
    return {"DataType": value["DataType"], "StringValue": value["StringValue"]}
