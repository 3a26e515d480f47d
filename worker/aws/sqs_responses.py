"""Strict readers of SQS responses: batch results, messages and the state of a queue."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from worker.aws.error_codes import error_of
from worker.domain.message import MESSAGE_MAX_BYTES, ReceivedMessage
from worker.errors import AWSError, AWSUnavailableError

# Exceptions raised by reading a malformed message.
MALFORMED: Final = (AttributeError, LookupError, OSError, OverflowError, TypeError, ValueError)
_LATEST_MS: Final = 253_402_300_799_000  # the last second of the year 9999
_NONE: Final[list[Any]] = []
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class _MalformedError(ValueError):
    """Part of a response is malformed; the text names the part and quotes no value."""

    quotes_no_response = True


def batch_results(
    response: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]
) -> list[AWSError | None]:
    """Return the results of a batch.

    Args:
        response: Response of SQS.
        entries: Entries of the request, with distinct ids.

    Returns:
        One result for each entry, in order: None for success, or an error. The result of an entry
        that the response does not name exactly once is unknown, which is an error.

    Raises:
        ValueError: A list of the response is not an array.
    """
    if _is_plain_success(response, entries):
        return [None] * len(entries)
    requested = {entry["Id"]: entry for entry in entries}
    results: dict[str, list[AWSError | None]] = {entry_id: [] for entry_id in requested}
    for success in _known_entries(response, "Successful", results):
        entry_id = success["Id"]
        results[entry_id].append(_mismatch(requested[entry_id], success))
    for failure in _known_entries(response, "Failed", results):
        results[failure["Id"]].append(_failure(failure))
    return [each[0] if len(each) == 1 else _unknown(each) for each in results.values()]


def _is_plain_success(response: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the response has exactly a success without a body for each entry, in order."""
    return (
        response.get("Successful") == [{"Id": entry["Id"]} for entry in entries]
        and response.get("Failed", _NONE) == _NONE
        and not any("MessageBody" in entry for entry in entries)
    )


def _known_entries(
    response: Mapping[str, Any], name: str, ids: Container[str]
) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a list whose id is that of a request entry; ignore all others."""
    for entry in list_member(response, name):
        entry_id = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(entry_id, str) and entry_id in ids:
            yield entry


def _mismatch(entry: Mapping[str, Any], success: Mapping[str, Any]) -> AWSError | None:
    """Return an error if a message was sent and its success does not confirm its body."""
    body, md5 = entry.get("MessageBody"), success.get("MD5OfMessageBody")
    if body is None or (success.get("MessageId") and md5 == body_md5(body)):
        return None
    return AWSUnavailableError("SQS confirmed a different body")


def _failure(failure: Mapping[str, Any]) -> AWSError:
    code, message = failure.get("Code"), failure.get("Message")
    if not isinstance(code, str):
        return AWSUnavailableError("SQS reported a failure without a code")
    return error_of(code, message if isinstance(message, str) else "")


def _unknown(results: Sequence[object]) -> AWSError:
    returned = "contradictory results" if results else "no result"
    return AWSUnavailableError(f"SQS returned {returned} for this entry")


_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)]


class _Attributes(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    SentTimestamp: _Milliseconds
    ApproximateFirstReceiveTimestamp: _Milliseconds
    ApproximateReceiveCount: Annotated[int, msgspec.Meta(ge=1)]
    AWSTraceHeader: str | msgspec.UnsetType = msgspec.UNSET
    MessageGroupId: str | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    MessageId: str
    ReceiptHandle: str
    MD5OfBody: str
    Body: str
    Attributes: _Attributes


class _Messages(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    Messages: list[_Message]


# Not strict: SQS writes numbers as strings.
_decode_messages: Final = msgspec.json.Decoder(_Messages, strict=False).decode


def read_usual_messages(body: bytes, headers: Mapping[str, str]) -> list[ReceivedMessage] | None:
    """Return the messages of a usual ReceiveMessage response, in half the time of `read_message`.

    Args:
        body: Body of the response.
        headers: Headers of the response by lower-case name.

    Returns:
        The messages as `read_message` returns them; None if that has to decide: the response is
        malformed, or it has parts that most responses lack, such as message attributes.
    """
    date = headers.get("date", "")
    try:
        return [_usual_message(each, date) for each in _decode_messages(body).Messages]
    except MALFORMED:
        return None


def _usual_message(message: _Message, date: str) -> ReceivedMessage:
    if message.MD5OfBody != body_md5(message.Body):
        raise _MalformedError("the body does not match its MD5")
    system = message.Attributes
    trace_header, group_id = system.AWSTraceHeader, system.MessageGroupId
    return ReceivedMessage(
        message_id=message.MessageId,
        receipt_handle=message.ReceiptHandle,
        body=message.Body,
        sent_ms=system.SentTimestamp,
        first_received_ms=system.ApproximateFirstReceiveTimestamp,
        receive_count=system.ApproximateReceiveCount,
        trace_header=None if trace_header is msgspec.UNSET else trace_header,
        group_id=None if group_id is msgspec.UNSET else group_id,
        date=date,
    )


def read_message(message: Mapping[str, Any], date: str) -> ReceivedMessage:
    """Return a message from an entry of a ReceiveMessage response.

    Args:
        message: Entry of the response, with decoded binary attributes.
        date: Date header of the response.

    Raises:
        Any of MALFORMED: The message is malformed.
    """
    get = message.get
    message_id, receipt_handle, body = get("MessageId"), get("ReceiptHandle"), get("Body")
    if not (
        isinstance(message_id, str) and isinstance(receipt_handle, str) and isinstance(body, str)
    ):
        raise _MalformedError("MessageId, ReceiptHandle, Body: missing or not a string")
    expected = get("MD5OfBody")
    if expected is not None and expected != body_md5(body):
        raise _MalformedError("the body does not match its MD5")
    attributes = get("MessageAttributes", {})
    for attribute in attributes.values():
        _check_attribute(attribute)
    system = get("Attributes", {})
    get = system.get
    return ReceivedMessage(
        message_id=message_id,
        receipt_handle=receipt_handle,
        body=body,
        sent_ms=_milliseconds(get("SentTimestamp", "0")),
        first_received_ms=_milliseconds(get("ApproximateFirstReceiveTimestamp", "0")),
        receive_count=max(1, int(get("ApproximateReceiveCount", "1"))),
        attributes=attributes,
        trace_header=_optional_string(system, "AWSTraceHeader"),
        group_id=_optional_string(system, "MessageGroupId"),
        date=date,
    )


def _check_attribute(attribute: Mapping[str, Any]) -> None:
    string_member(attribute, "DataType")
    for name, kind in (("StringValue", str), ("BinaryValue", bytes)):
        if not isinstance(attribute.get(name), kind | None):
            raise _MalformedError(f"MessageAttributes: {name}: wrong type")


def _milliseconds(text: str) -> int:
    milliseconds = int(text)
    if not 0 <= milliseconds <= _LATEST_MS:
        datetime.fromtimestamp(milliseconds / 1000, tz=UTC)  # raises an error
    return milliseconds


def response_date(response: Mapping[str, Any]) -> str:
    """Return the Date header of a response; empty if it has none."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("date", ""))


def uuid_of(message: Any) -> str | None:
    """Return the message id if it is a UUID, which cannot be private data."""
    message_id = message.get("MessageId") if isinstance(message, dict) else None
    return message_id if isinstance(message_id, str) and _UUID.fullmatch(message_id) else None


def list_member(structure: Mapping[str, Any], name: str) -> list[Any]:
    """Return a member that must be an array; empty if it is absent.

    Raises:
        ValueError: It is of another type.
    """
    value = structure.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _MalformedError(f"{name}: not an array")
    return value


def string_member(structure: Mapping[str, Any], name: str) -> str:
    """Return a member that must be a string.

    Raises:
        ValueError: It is missing or of another type.
    """
    value = structure.get(name)
    if not isinstance(value, str):
        raise _MalformedError(f"{name}: missing or not a string")
    return value


def _optional_string(structure: Mapping[str, Any], name: str) -> str | None:
    return string_member(structure, name) if name in structure else None


def body_md5(body: str) -> str:
    """Return the MD5 of a body in hexadecimal digits, as SQS returns it."""
    # SQS uses MD5 as a checksum; security does not depend on it.
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class QueueState:
    """State of a queue as SQS reports it; counts are approximate.

    Attributes:
        max_receive_count: From the redrive policy; None without one.
        redrives_to: ARN of the dead-letter queue in the redrive policy; None without one.
        visibility_timeout_seconds: Default for receives that specify none.
        encryption: KMS key, or `SSE-SQS`; empty if not encrypted, None if not reported.
        policy: Access policy; None without one.
        redrive_allow: Redrive allow policy; None without one.
        message_max_bytes: MaximumMessageSize: limit of a message's body and attributes together.
    """

    url: str
    arn: str
    visible: int
    in_flight: int
    delayed: int
    retention_seconds: int
    fifo: bool
    max_receive_count: int | None
    redrives_to: str | None
    visibility_timeout_seconds: int = 30
    encryption: str | None = None
    policy: Mapping[str, Any] | None = None
    redrive_allow: Mapping[str, Any] | None = None
    message_max_bytes: int = MESSAGE_MAX_BYTES

    @property
    def depth(self) -> int:
        """Number of messages in the queue: visible, in flight and delayed."""
        return self.visible + self.in_flight + self.delayed


def read_queue_state(url: str, attributes: Mapping[Any, str]) -> QueueState:
    """Return the state of a queue from its attributes.

    Args:
        url: URL of the queue.
        attributes: Attributes by name, from GetQueueAttributes.

    Raises:
        ValueError: A number or the redrive policy is malformed.
    """
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    return QueueState(
        url=url,
        arn=attributes.get("QueueArn", ""),
        visible=int(attributes.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
        retention_seconds=int(attributes.get("MessageRetentionPeriod", 345_600)),
        fifo=attributes.get("FifoQueue") == "true" or url.endswith(".fifo"),
        max_receive_count=int(redrive["maxReceiveCount"]) if redrive else None,
        redrives_to=redrive.get("deadLetterTargetArn"),
        visibility_timeout_seconds=int(attributes.get("VisibilityTimeout", 30)),
        encryption=_encryption(attributes),
        policy=_document(attributes.get("Policy")),
        redrive_allow=_document(attributes.get("RedriveAllowPolicy")),
        message_max_bytes=min(
            int(attributes.get("MaximumMessageSize", MESSAGE_MAX_BYTES)), MESSAGE_MAX_BYTES
        ),
    )


def _document(text: str | None) -> Mapping[str, Any] | None:
    # A malformed policy must not prevent the start.
    try:
        document = json.loads(text or "null")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _encryption(attributes: Mapping[Any, str]) -> str | None:
    if attributes.get("KmsMasterKeyId"):
        return attributes["KmsMasterKeyId"]
    managed = attributes.get("SqsManagedSseEnabled")
    return None if managed is None else "SSE-SQS" if managed == "true" else ""
