"""Format of a dead letter: the original message, the reason, and the replay history."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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
# Sufficient for the attribute with a detail of usual length; longer details are shortened.
ATTRIBUTE_RESERVED_BYTES: Final = 1024
_SHORT_DETAIL_CHARACTERS: Final = 60
_EDITS_MAX: Final = 10
_CHANGED_MAX: Final = 20
_NAME_MAX_CHARACTERS: Final = 100
# Exceptions from an attribute that is absent or that another program wrote.
_NOT_READABLE: Final = (
    KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetterInfo:
    """Content of the dead-letter attribute.

    Attributes:
        reason: Value of a `Reason`, or a code of a later version of this program.
        detail: One line for the operator.
        message_id: Message id of the original message.
        sent_at: Time when the original message was sent, in ISO 8601.
        receive_count: Number of receives of the original message.
        worker_version: Version of the program that wrote the dead letter.
        moved_attributes: Attributes of the original message that were moved into this one, because
            SQS allows ten attributes.
    """

    reason: str
    detail: str = ""
    message_id: str = ""
    sent_at: str = ""
    receive_count: int = 0
    worker_version: str = __version__
    moved_attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """Edit of a message by an operator before a replay.

    Attributes:
        at: Time of the edit, in ISO 8601.
        by: Name of the operator.
        changed: Names of changed fields, never their values.
    """

    at: str
    by: str
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replays:
    """Replay history of a message.

    Attributes:
        count: Number of replays.
        at: Time of the last replay, in ISO 8601.
        edits: Edits, oldest first.
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
    """Create the dead letter of a message.

    The body is unchanged and all attributes are kept. If there are ten attributes already, the
    smallest is moved into the dead-letter attribute, from which `original` restores it. Near the
    size limit the dead letter is reduced in steps, see `_forms`.

    Args:
        message: A message that can never be recorded.
        reason: Value of a `Reason`.
        detail: One line for the operator.
        dead_at: Current time.
        max_bytes: MaximumMessageSize of the dead-letter queue.

    Returns:
        The most complete form that fits. If none fits, the body alone, larger than `max_bytes`.
    """
    plain = original(message)  # it may have been dead-lettered before
    info: dict[str, Any] = {
        "reason": reason,
        "detail": " ".join(detail.split())[:DETAIL_MAX_CHARACTERS],
        "message_id": message.message_id,
        "sent_at": message.sent_at.isoformat(timespec="milliseconds"),
        "receive_count": message.receive_count,
        "dead_at": dead_at.isoformat(timespec="milliseconds"),
        "worker_version": __version__,
    }
    for dead_letter in _forms(plain, info):
        if dead_letter.size_bytes <= max_bytes:
            break
    return dead_letter


def _forms(plain: OutgoingMessage, info: Mapping[str, Any]) -> Iterator[OutgoingMessage]:
    """Yield smaller and smaller dead letters: with less information, then with fewer attributes."""
    yield _with_info(plain, info)
    message = _without_edits(plain)
    yield _with_info(message, info)
    yield _with_info(message, {**info, "detail": info["detail"][:_SHORT_DETAIL_CHARACTERS]})
    yield _with_info(message, {**info, "detail": ""})
    short = {"reason": info["reason"]}
    yield _with_info(message, short)
    message = _without_replays(plain)
    yield _with_info(message, short)
    yield plain
    body = replace(plain, attributes={})
    yield _with_info(body, {**short, "dropped_attributes": len(message.attributes)})
    yield body


def _with_info(plain: OutgoingMessage, info: Mapping[str, Any]) -> OutgoingMessage:
    attributes = dict(plain.attributes)
    moved: dict[str, Any] = {}
    while len(attributes) >= ATTRIBUTES_MAX:
        name = min(attributes, key=lambda name: len(str(attributes[name])))
        moved[name] = _packed(attributes.pop(name))
    extra = {"attributes": moved} if moved else {}
    return replace(plain, attributes=attributes | {ATTRIBUTE: _string({**info, **extra})})


def read(message: ReceivedMessage | OutgoingMessage) -> DeadLetterInfo | None:
    """Return the content of the dead-letter attribute; None without one, as after SQS redrives."""
    try:
        content = json.loads(message.attributes[ATTRIBUTE]["StringValue"])
        return DeadLetterInfo(
            reason=str(content["reason"]),
            detail=str(content.get("detail", "")),
            message_id=str(content.get("message_id", "")),
            sent_at=str(content.get("sent_at", "")),
            receive_count=int(content.get("receive_count", 0)),
            worker_version=str(content.get("worker_version", "")),
            moved_attributes={
                name: _unpacked(each) for name, each in content.get("attributes", {}).items()
            },
        )
    except _NOT_READABLE:
        return None


def original(message: ReceivedMessage | OutgoingMessage) -> OutgoingMessage:
    """Return the message as it was before it was dead-lettered."""
    info = read(message)
    attributes = {name: value for name, value in message.attributes.items() if name != ATTRIBUTE}
    return OutgoingMessage(
        body=message.body,
        attributes=attributes | dict(info.moved_attributes if info else {}),
        trace_header=message.trace_header,
        group_id=message.group_id,
    )


def replays(message: ReceivedMessage | OutgoingMessage) -> Replays:
    """Return the replay history of a message or dead letter; empty without a valid attribute."""
    return _replays(original(message))


def _replays(plain: OutgoingMessage) -> Replays:
    try:
        content = json.loads(plain.attributes[REPLAYS_ATTRIBUTE]["StringValue"])
        return Replays(
            count=max(0, int(content["count"])),
            at=str(content.get("at", "")),
            edits=tuple(
                Edit(str(each["at"]), str(each["by"]), tuple(map(str, each["changed"])))
                for each in content.get("edits", [])
            ),
        )
    except _NOT_READABLE:
        return Replays()


def mark_replayed(
    plain: OutgoingMessage,
    at: datetime,
    edit: Edit | None = None,
    *,
    max_bytes: int = MESSAGE_MAX_BYTES,
) -> OutgoingMessage:
    """Return a message with one more replay, and an edit if there is one, in its history.

    The message itself takes precedence: if the limits on attributes or size are exceeded, the edits
    are omitted first, then the whole history.

    Args:
        plain: Message from `original`, edited or not.
        at: Current time.
        edit: The edit of this replay.
        max_bytes: MaximumMessageSize of the destination queue.
    """
    before = _replays(plain)
    edits = before.edits if edit is None else (*before.edits, _bounded(edit))
    updated = _with_replays(
        plain,
        Replays(before.count + 1, at.isoformat(timespec="milliseconds"), edits[-_EDITS_MAX:]),
    )
    for message in (updated, _without_edits(updated)):
        fits = len(message.attributes) <= ATTRIBUTES_MAX
        if fits and message.size_bytes <= max_bytes:
            return message
    return _without_replays(plain)


def _bounded(edit: Edit) -> Edit:
    changed = tuple(name[:_NAME_MAX_CHARACTERS] for name in edit.changed[:_CHANGED_MAX])
    omitted = len(edit.changed) - len(changed)
    more = (f"and {omitted} more",) if omitted else ()
    return Edit(edit.at, edit.by[:_NAME_MAX_CHARACTERS], (*changed, *more))


def _with_replays(plain: OutgoingMessage, history: Replays) -> OutgoingMessage:
    content = asdict(history)
    if not history.edits:
        del content["edits"]
    return replace(plain, attributes={**plain.attributes, REPLAYS_ATTRIBUTE: _string(content)})


def _without_edits(message: OutgoingMessage) -> OutgoingMessage:
    if REPLAYS_ATTRIBUTE not in message.attributes:
        return message
    return _with_replays(message, replace(_replays(message), edits=()))


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
