"""Strict readers of batch results and messages in SQS responses."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from worker.aws.error_codes import error_of
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSUnavailableError

# Exceptions raised by reading a malformed message.
MALFORMED: Final = (AttributeError, LookupError, OSError, OverflowError, TypeError, ValueError)
_REQUIRED: Final = ("MessageId", "ReceiptHandle", "Body")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
SuccessCheck = Callable[[int, Mapping[str, Any]], bool]


class _MalformedError(ValueError):
    """Part of a response is malformed; the text names the part and quotes no value."""

    quotes_no_response = True


def batch_results(
    response: Mapping[str, Any], count: int, confirmed: SuccessCheck | None = None
) -> list[AWSError | None]:
    """Return the results of a batch.

    Args:
        response: Response of SQS.
        count: Number of entries; their ids are their indexes.
        confirmed: Check of a success; by default every success counts.

    Returns:
        One result for each entry, in order: None for success, or an error. The result of an entry
        that the response does not name exactly once is unknown, which is an error.

    Raises:
        ValueError: A list of the response is not an array.
    """
    results: list[list[AWSError | None]] = [[] for _ in range(count)]
    indexes = {str(index): index for index in range(count)}
    for success in _known_entries(response, "Successful", indexes):
        index = indexes[success["Id"]]
        error = None
        if confirmed is not None and not confirmed(index, success):
            error = AWSUnavailableError("SQS confirmed a different body")
        results[index].append(error)
    for failure in _known_entries(response, "Failed", indexes):
        results[indexes[failure["Id"]]].append(_failure(failure))
    return [each[0] if len(each) == 1 else _unknown(each) for each in results]


def _known_entries(
    response: Mapping[str, Any], name: str, indexes: Mapping[str, int]
) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a list whose id is that of a request entry; ignore all others."""
    for entry in list_member(response, name):
        entry_id = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(entry_id, str) and entry_id in indexes:
            yield entry


def _failure(failure: Mapping[str, Any]) -> AWSError:
    code, message = failure.get("Code"), failure.get("Message")
    if not isinstance(code, str):
        return AWSUnavailableError("SQS reported a failure without a code")
    return error_of(code, message if isinstance(message, str) else "")


def _unknown(results: Sequence[object]) -> AWSError:
    returned = "contradictory results" if results else "no result"
    return AWSUnavailableError(f"SQS returned {returned} for this entry")


def read_message(message: Mapping[str, Any], date: str) -> ReceivedMessage:
    """Return a message from an entry of a ReceiveMessage response.

    Args:
        message: Entry of the response, with decoded binary attributes.
        date: Date header of the response.

    Raises:
        Any of MALFORMED: The message is malformed.
    """
    message_id, receipt_handle, body = map(message.get, _REQUIRED)
    if not (
        isinstance(message_id, str) and isinstance(receipt_handle, str) and isinstance(body, str)
    ):
        raise _MalformedError(f"{', '.join(_REQUIRED)}: missing or not a string")
    expected = message.get("MD5OfBody")
    if expected is not None and expected != body_md5(body):
        raise _MalformedError("the body does not match its MD5")
    system = message.get("Attributes", {})
    attributes = message.get("MessageAttributes", {})
    for attribute in attributes.values():
        _check_attribute(attribute)
    return ReceivedMessage(
        message_id=message_id,
        receipt_handle=receipt_handle,
        body=body,
        sent_at=_timestamp(system.get("SentTimestamp", "0")),
        first_received_at=_timestamp(system.get("ApproximateFirstReceiveTimestamp", "0")),
        receive_count=max(1, int(system.get("ApproximateReceiveCount", "1"))),
        attributes=attributes,
        trace_header=string_member(system, "AWSTraceHeader")
        if "AWSTraceHeader" in system
        else None,
        group_id=string_member(system, "MessageGroupId") if "MessageGroupId" in system else None,
        date=date,
    )


def _check_attribute(attribute: Mapping[str, Any]) -> None:
    string_member(attribute, "DataType")
    for name, kind in (("StringValue", str), ("BinaryValue", bytes)):
        if not isinstance(attribute.get(name), kind | None):
            raise _MalformedError(f"MessageAttributes: {name}: wrong type")


def _timestamp(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)


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


def body_md5(body: str) -> str:
    """Return the MD5 of a body in hexadecimal digits, as SQS returns it."""
    # SQS uses MD5 as a checksum; security does not depend on it.
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
