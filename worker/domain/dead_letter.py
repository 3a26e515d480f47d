"""The format of a dead letter: the original, why it died, and how often it was replayed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from worker import __version__
from worker.domain.message import (
    ATTRIBUTES_MAX,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    ReceivedMessage,
)

ATTRIBUTE: Final = "aup.dead_letter"
REPLAYS_ATTRIBUTE: Final = "aup.replay"
DETAIL_MAX_CHARACTERS: Final = 500
# Room for the attribute with a detail of usual length; longer details are shortened.
ATTRIBUTE_ROOM_BYTES: Final = 1024
_SHORT_DETAIL_CHARACTERS: Final = 60
_EDITS_MAX: Final = 10
_CHANGED_MAX: Final = 20
_NAME_MAX_CHARACTERS: Final = 100
# What whoever writes an attribute may make of it.
_UNREADABLE: Final = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
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


@dataclass(frozen=True, slots=True)
class Edit:
    """What an operator changed in a message before it was replayed.

    Attributes:
        at: when, in ISO 8601.
        by: the operator's name.
        changed: names of fields, never their values.
    """

    at: str
    by: str
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replays:
    """How often a message was replayed, and how it was edited then.

    Attributes:
        at: when the last time, in ISO 8601.
        edits: oldest first.
    """

    count: int = 0
    at: str = ""
    edits: tuple[Edit, ...] = ()


def to_dead_letter(
    message: ReceivedMessage,
    reason: str,
    detail: str,
    *,
    dead_at: datetime,
    max_bytes: int = MESSAGE_MAX_BYTES,
) -> OutgoingMessage:
    """Write the dead letter of a delivery.

    The body stays byte for byte, and all attributes are kept: where there are ten already, the
    smallest moves into ours, from which `original` restores it. Near the size limit the dead letter
    shrinks step by step (`_forms`), down to the body alone.

    Args:
        message: what cannot be recorded.
        reason: code of a `Reason`.
        detail: one line for a person.
        dead_at: now, for whoever reads it.
        max_bytes: MaximumMessageSize of the dead-letter queue.

    Returns:
        The most complete form that fits; the body alone, larger than `max_bytes`, if none does.
    """
    plain = original(message)  # it may have died before
    note: dict[str, Any] = {
        "reason": reason,
        "detail": " ".join(detail.split())[:DETAIL_MAX_CHARACTERS],
        "message_id": message.message_id,
        "sent_at": message.sent_at.isoformat(timespec="milliseconds"),
        "receive_count": message.receive_count,
        "dead_at": dead_at.isoformat(timespec="milliseconds"),
        "worker_version": __version__,
    }
    for letter in _forms(plain, note):
        if letter.size_bytes <= max_bytes:
            break
    return letter


def _forms(plain: OutgoingMessage, note: Mapping[str, Any]) -> Iterator[OutgoingMessage]:
    """Yield ever smaller dead letters: less about the death first, then fewer attributes."""
    yield _noted(plain, note)
    message = _without_edits(plain)
    yield _noted(message, note)
    yield _noted(message, {**note, "detail": note["detail"][:_SHORT_DETAIL_CHARACTERS]})
    yield _noted(message, {**note, "detail": ""})
    short = {"reason": note["reason"]}
    yield _noted(message, short)
    message = _without_replays(plain)
    yield _noted(message, short)
    yield plain
    body = replace(plain, attributes={})
    yield _noted(body, {**short, "dropped_attributes": len(message.attributes)})
    yield body


def _noted(plain: OutgoingMessage, note: Mapping[str, Any]) -> OutgoingMessage:
    attributes = dict(plain.attributes)
    folded: dict[str, Any] = {}
    while len(attributes) >= ATTRIBUTES_MAX:
        name = min(attributes, key=lambda name: len(str(attributes[name])))
        folded[name] = _packed(attributes.pop(name))
    kept = {"attributes": folded} if folded else {}
    return replace(plain, attributes=attributes | {ATTRIBUTE: _string({**note, **kept})})


def read(message: ReceivedMessage | OutgoingMessage) -> DeadLetterInfo | None:
    """Read why a dead letter died; None where nobody says, as after a redrive by SQS itself."""
    value = message.attributes.get(ATTRIBUTE, {}).get("StringValue")
    if value is None:
        return None
    try:
        note = json.loads(value)
        return DeadLetterInfo(
            reason=str(note["reason"]),
            detail=str(note.get("detail", "")),
            message_id=str(note.get("message_id", "")),
            sent_at=str(note.get("sent_at", "")),
            receive_count=int(note.get("receive_count", 0)),
            worker_version=str(note.get("worker_version", "")),
            folded={name: _unpacked(each) for name, each in note.get("attributes", {}).items()},
        )
    except _UNREADABLE:
        return None


def original(message: ReceivedMessage | OutgoingMessage) -> OutgoingMessage:
    """Restore the message as it was before it was dead-lettered."""
    death = read(message)
    attributes = {name: value for name, value in message.attributes.items() if name != ATTRIBUTE}
    return OutgoingMessage(
        body=message.body,
        attributes=attributes | dict(death.folded if death else {}),
        trace_header=message.trace_header,
        group_id=message.group_id,
    )


def replays(message: ReceivedMessage | OutgoingMessage) -> Replays:
    """Read how often a message was replayed, dead or alive; never, where nobody says."""
    return _replays(original(message))


def _replays(plain: OutgoingMessage) -> Replays:
    value = plain.attributes.get(REPLAYS_ATTRIBUTE, {}).get("StringValue")
    if value is None:
        return Replays()
    try:
        content = json.loads(value)
        return Replays(
            count=max(0, int(content["count"])),
            at=str(content.get("at", "")),
            edits=tuple(
                Edit(str(each["at"]), str(each["by"]), tuple(map(str, each["changed"])))
                for each in content.get("edits", [])
            ),
        )
    except _UNREADABLE:
        return Replays()


def mark_replayed(
    plain: OutgoingMessage,
    at: datetime,
    edit: Edit | None = None,
    *,
    max_bytes: int = MESSAGE_MAX_BYTES,
) -> OutgoingMessage:
    """Mark a message as replayed once more, and as edited if it was.

    What the message brought is kept first: where its attributes or its size leave no room, the
    edits are left out, then the mark.

    Args:
        plain: as `original` restored it, and edited since if `edit` says so.
        at: now.
        edit: what was changed, if anything was.
        max_bytes: MaximumMessageSize of the queue that it is sent to.
    """
    before = _replays(plain)
    edits = before.edits if edit is None else (*before.edits, _bounded(edit))
    marked = _marked(
        plain,
        Replays(before.count + 1, at.isoformat(timespec="milliseconds"), edits[-_EDITS_MAX:]),
    )
    for message in (marked, _without_edits(marked)):
        fits = len(message.attributes) <= ATTRIBUTES_MAX
        if fits and message.size_bytes <= max_bytes:
            return message
    return _without_replays(plain)


def _bounded(edit: Edit) -> Edit:
    changed = tuple(name[:_NAME_MAX_CHARACTERS] for name in edit.changed[:_CHANGED_MAX])
    left_out = len(edit.changed) - len(changed)
    more = (f"and {left_out} more",) if left_out else ()
    return Edit(edit.at, edit.by[:_NAME_MAX_CHARACTERS], (*changed, *more))


def _marked(plain: OutgoingMessage, known: Replays) -> OutgoingMessage:
    content: dict[str, Any] = {"count": known.count, "at": known.at}
    if known.edits:
        content["edits"] = [
            {"at": each.at, "by": each.by, "changed": list(each.changed)} for each in known.edits
        ]
    return replace(plain, attributes={**plain.attributes, REPLAYS_ATTRIBUTE: _string(content)})


def _without_edits(message: OutgoingMessage) -> OutgoingMessage:
    if REPLAYS_ATTRIBUTE not in message.attributes:
        return message
    return _marked(message, replace(_replays(message), edits=()))


def _without_replays(message: OutgoingMessage) -> OutgoingMessage:
    kept = {name: value for name, value in message.attributes.items() if name != REPLAYS_ATTRIBUTE}
    return replace(message, attributes=kept)


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
