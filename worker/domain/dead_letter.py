"""Format of a dead letter: the original message, the reason, and the replay history."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from worker import __version__
from worker.domain.acceptance import parse_time
from worker.domain.message import (
    ATTRIBUTES_MAX,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    ReceivedMessage,
)
from worker.domain.origin import Edit, Origin
from worker.errors import EditError

ATTRIBUTE: Final = "aup.dead_letter"
REPLAYS_ATTRIBUTE: Final = "aup.replay"
DETAIL_MAX_CHARACTERS: Final = 500
# Sufficient for the attribute with a detail of usual length; longer details are shortened.
ATTRIBUTE_RESERVED_BYTES: Final = 1024
_SHORT_DETAIL_CHARACTERS: Final = 60
# Read without restoring moved attributes.
_NOT_MOVED: Final = frozenset({REPLAYS_ATTRIBUTE, "traceparent", "tracestate"})
# The edits of a record must fit into its item.
EDITS_MAX: Final = 10
_CHANGED_MAX: Final = 20
_NAME_MAX_CHARACTERS: Final = 100
_COUNT_MAX: Final = 1_000_000
_SHA256: Final = re.compile("[0-9a-f]{64}")
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
class Replays:
    """Replay history of a message.

    Attributes:
        count: Number of replays.
        at: Time of the last replay, in ISO 8601.
        message_id: Message id that SQS assigned when the producer sent the message.
        sent_at: Time when SQS accepted it then, in ISO 8601.
        edits: Edits, oldest first.
        moved_attributes: Attributes of the message that were moved into the history, because SQS
            allows ten attributes.
    """

    count: int = 0
    at: str = ""
    message_id: str = ""
    sent_at: str = ""
    edits: tuple[Edit, ...] = ()
    moved_attributes: Mapping[str, Any] = field(default_factory=dict)


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
    """Yield smaller and smaller dead letters; the replay history belongs to the evidence."""
    yield _with_attribute(plain, ATTRIBUTE, info)
    yield _with_attribute(
        plain, ATTRIBUTE, {**info, "detail": info["detail"][:_SHORT_DETAIL_CHARACTERS]}
    )
    yield _with_attribute(plain, ATTRIBUTE, {**info, "detail": ""})
    short = {"reason": info["reason"]}
    yield _with_attribute(plain, ATTRIBUTE, short)
    yield plain
    kept = {name: each for name, each in plain.attributes.items() if name == REPLAYS_ATTRIBUTE}
    bare = replace(plain, attributes=kept)
    dropped = len(plain.attributes) - len(kept)
    yield _with_attribute(bare, ATTRIBUTE, {**short, "dropped_attributes": dropped})
    yield bare


def _with_attribute(
    message: OutgoingMessage, name: str, content: Mapping[str, Any]
) -> OutgoingMessage:
    """Add an attribute; if there are ten already, it takes the smallest others along."""
    attributes = {other: value for other, value in message.attributes.items() if other != name}
    moved: dict[str, Any] = {}
    while len(attributes) >= ATTRIBUTES_MAX:
        movable = attributes.keys() - _NOT_MOVED
        smallest = min(sorted(movable), key=lambda other: len(str(attributes[other])))
        moved[smallest] = _packed(attributes.pop(smallest))
    if moved:
        content = {**content, "attributes": {**content.get("attributes", {}), **moved}}
    text = json.dumps(content, separators=(",", ":"))
    return replace(
        message, attributes={**attributes, name: {"DataType": "String", "StringValue": text}}
    )


def read(message: ReceivedMessage | OutgoingMessage) -> DeadLetterInfo | None:
    """Return the content of the dead-letter attribute; None without one, as after SQS redrives."""
    try:
        content = json.loads(message.attributes[ATTRIBUTE]["StringValue"])
        return DeadLetterInfo(
            reason=_name(content["reason"]),
            detail=str(content.get("detail", "")),
            message_id=_name(content.get("message_id", "")),
            sent_at=str(content.get("sent_at", "")),
            receive_count=int(content.get("receive_count", 0)),
            worker_version=str(content.get("worker_version", "")),
            moved_attributes=_moved(content),
        )
    except _NOT_READABLE:
        return None


def _moved(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _unpacked(each) for name, each in content.get("attributes", {}).items()}


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
    plain = original(message)
    try:
        content = json.loads(plain.attributes[REPLAYS_ATTRIBUTE]["StringValue"])
        return Replays(
            count=min(max(0, int(content["count"])), _COUNT_MAX),
            at=str(content.get("at", "")),
            message_id=_name(content.get("message_id", "")),
            sent_at=str(content.get("sent_at", "")),
            edits=tuple(map(_edit, content.get("edits", [])[:EDITS_MAX])),
            moved_attributes=_moved(content),
        )
    except _NOT_READABLE:
        return Replays()


def _edit(content: Mapping[str, Any]) -> Edit:
    sha256 = str(content.get("body_sha256", ""))
    names = content["changed"][: _CHANGED_MAX + 1]  # with the number of omitted names
    return Edit(
        at=_name(content["at"]),
        by=_name(content["by"]),
        changed=tuple(map(_name, names)),
        body_sha256=sha256 if _SHA256.fullmatch(sha256) else "",
    )


def _name(value: object) -> str:
    """Return a text that fits into a record or an address; any sender may have written it."""
    text = str(value)[:_NAME_MAX_CHARACTERS]
    return text.encode(errors="replace").decode()  # without lone surrogates


def _bounded(edit: Edit) -> Edit:
    changed = tuple(map(_name, edit.changed[:_CHANGED_MAX]))
    omitted = len(edit.changed) - len(changed)
    more = (f"and {omitted} more",) if omitted else ()
    return replace(edit, by=_name(edit.by), changed=(*changed, *more))


def origin(message: ReceivedMessage) -> Origin:
    """Return the origin of a message or dead letter, which may have been replayed and edited."""
    if not message.attributes:
        return Origin(message.sent_ms, message.message_id, body_sha256(message.body))
    history = replays(message)
    info = read(message)
    # The history is older than the dead letter: it is kept across replays.
    known = (
        (history.message_id, history.sent_at),
        (info.message_id, info.sent_at) if info else ("", ""),
    )
    received = ((name, _parsed(sent_at)) for name, sent_at in known)
    message_id, received_at = next(
        ((name, at) for name, at in received if at is not None),
        (message.message_id, message.sent_at),
    )
    edits = history.edits
    return Origin.at(
        received_at,
        message_id=message_id,
        body_sha256=edits[0].body_sha256 if edits else body_sha256(message.body),
        replayed_at=_parsed(history.at),
        edits=edits,
    )


def body_sha256(body: str) -> str:
    """Return the SHA-256 of a message body in lower-case hexadecimal."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _parsed(text: str) -> datetime | None:
    if len(text) > _NAME_MAX_CHARACTERS:  # parsed times are cached
        return None
    try:
        return parse_time(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def mark_replayed(
    plain: OutgoingMessage, at: datetime, source: Origin, edit: Edit | None = None
) -> OutgoingMessage:
    """Return a message with one more replay, and an edit if there is one, in its history.

    Args:
        plain: Message from `original`, edited or not.
        at: Current time.
        source: Origin of the dead letter.
        edit: The edit of this replay.

    Raises:
        EditError: The history has no room for another edit.
    """
    before = replays(plain)
    edits = before.edits if edit is None else (*before.edits, _bounded(edit))
    if len(edits) > EDITS_MAX:
        raise EditError(f"edited {EDITS_MAX} times already; the record holds no more edits")
    content: dict[str, Any] = {
        "count": before.count + 1,
        "at": at.isoformat(timespec="milliseconds"),
        "message_id": source.message_id,
        "sent_at": source.received_at.isoformat(timespec="milliseconds"),
    }
    if edits:
        content["edits"] = [edit_fields(each) for each in edits]
    if before.moved_attributes:
        content["attributes"] = {
            name: _packed(each) for name, each in before.moved_attributes.items()
        }
    return _with_attribute(plain, REPLAYS_ATTRIBUTE, content)


def edit_fields(edit: Edit) -> dict[str, Any]:
    """Return an edit for JSON."""
    fields = {"at": edit.at, "by": edit.by, "changed": list(edit.changed)}
    return {**fields, "body_sha256": edit.body_sha256} if edit.body_sha256 else fields


def _packed(value: Mapping[str, Any]) -> dict[str, str]:
    if "BinaryValue" in value:
        content = base64.b64encode(value["BinaryValue"]).decode()
        return {"DataType": value["DataType"], "Base64": content}
    return {"DataType": value["DataType"], "StringValue": value.get("StringValue", "")}


def _unpacked(value: Mapping[str, str]) -> dict[str, Any]:
    if "Base64" in value:
        return {"DataType": value["DataType"], "BinaryValue": base64.b64decode(value["Base64"])}
    return {"DataType": value["DataType"], "StringValue": value["StringValue"]}
