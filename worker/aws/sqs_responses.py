"""Strict readers of the batches and messages that SQS returns."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from worker.aws.error_codes import error_of
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSUnavailableError

# What reading a message raises that is not as SQS sends it.
UNREADABLE: Final = (AttributeError, LookupError, OSError, OverflowError, TypeError, ValueError)
_REQUIRED: Final = ("MessageId", "ReceiptHandle", "Body")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
Confirmed = Callable[[int, Mapping[str, Any]], bool]


class _MalformedError(ValueError):
    """Part of a response is not as SQS sends it; the text names the part and quotes nothing."""

    quotes_no_response = True


def batch_results(
    answer: Mapping[str, Any], count: int, confirmed: Confirmed | None = None
) -> list[AWSError | None]:
    """Read the response to a batch, strictly.

    Args:
        answer: what SQS responded.
        count: of entries, whose ids are their indexes.
        confirmed: whether a success proves what was asked for.

    Returns:
        One result for each entry, in order: what is said of it, if exactly one list names it and
        once; otherwise that its result is unknown.
    """
    said: list[list[AWSError | None]] = [[] for _ in range(count)]
    indexes = {str(index): index for index in range(count)}
    for success in _named(answer, "Successful", indexes):
        index = indexes[success["Id"]]
        proves = confirmed is None or confirmed(index, success)
        said[index].append(None if proves else AWSUnavailableError("SQS confirmed another body"))
    for failure in _named(answer, "Failed", indexes):
        said[indexes[failure["Id"]]].append(_failure(failure))
    return [each[0] if len(each) == 1 else _unknown(each) for each in said]


def _named(
    answer: Mapping[str, Any], name: str, indexes: Mapping[str, int]
) -> Iterator[Mapping[str, Any]]:
    """Return the entries of a list that name one of ours; any other disturbs none of these."""
    for entry in list_member(answer, name):
        found = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(found, str) and found in indexes:
            yield entry


def _failure(failure: Mapping[str, Any]) -> AWSError:
    code, message = failure.get("Code"), failure.get("Message")
    if not isinstance(code, str):
        return AWSUnavailableError("SQS reported a failure without a code")
    return error_of(code, message if isinstance(message, str) else "")


def _unknown(said: Sequence[object]) -> AWSError:
    problem = "contradicted itself on" if said else "did not mention"
    return AWSUnavailableError(f"SQS {problem} this entry: its result is unknown")


def read_message(message: Mapping[str, Any], date: str) -> ReceivedMessage:
    """Read one message of a ReceiveMessage response.

    Args:
        message: As SQS sends it, with decoded binary attributes.
        date: Date header of the response.

    Raises:
        One of `UNREADABLE`: It is malformed.
    """
    message_id, receipt_handle, body = map(message.get, _REQUIRED)
    if not (
        isinstance(message_id, str) and isinstance(receipt_handle, str) and isinstance(body, str)
    ):
        raise _MalformedError(f"{', '.join(_REQUIRED)}: missing or not a string")
    stated = message.get("MD5OfBody")
    if stated is not None and stated != body_md5(body):
        raise _MalformedError("the body is not what was sent, by its MD5")
    system = message.get("Attributes", {})
    attributes = message.get("MessageAttributes", {})
    for attribute in attributes.values():
        _check_attribute(attribute)
    return ReceivedMessage(
        message_id=message_id,
        receipt_handle=receipt_handle,
        body=body,
        sent_at=_moment(system.get("SentTimestamp", "0")),
        first_received_at=_moment(system.get("ApproximateFirstReceiveTimestamp", "0")),
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
            raise _MalformedError(f"MessageAttributes: {name}: not what its type says")


def _moment(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)


def response_date(answer: Mapping[str, Any]) -> str:
    """Return the Date header of a response; empty if it has none."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("date", ""))


def uuid_of(message: Any) -> str | None:
    """Return the message id if it cannot be anything else."""
    found = message.get("MessageId") if isinstance(message, dict) else None
    return found if isinstance(found, str) and _UUID.fullmatch(found) else None


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
    """Return the MD5 of a body as SQS states it, in hexadecimal digits."""
    # SQS states an MD5 as a checksum; nothing depends on its strength.
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
