"""Recognition of other formats in rejected bodies, for the detail of the dead letter."""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Mapping
from typing import Any, Final

# Enough to recognise every format; a body may have a mebibyte.
_HEAD_BYTES: Final = 4096
_NAMES_MAX: Final = 100
_NAME_MAX_CHARACTERS: Final = 64
_GZIP: Final = b"\x1f\x8b"
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_PAIR: Final = rb"[\w.~%+-]{1,64}=[^&=<>{}\s]*"
# The first match counts.
_TEXTS: Final = tuple(
    (re.compile(pattern, re.DOTALL), hint)
    for pattern, hint in (
        (rb"\Z", "the text is empty"),
        (_GZIP, "looks like gzip, send uncompressed JSON"),
        (rb"\xff\xfe|\xfe\xff", "looks like UTF-16, send UTF-8"),
        (rb"(?i)(?=<)(?:.{0,195}<html|.{0,186}<!doctype html)", "looks like HTML, send JSON"),
        (rb"<", "looks like XML, send JSON"),
        (
            _PAIR + rb"(?:&" + _PAIR + rb")+\s*\Z",
            "looks like an HTML form (application/x-www-form-urlencoded), send JSON",
        ),
        (rb"\{'", "looks like a Python dict, send JSON"),
        (
            rb"(?:\s*\{[^\n]*(?:\n|\Z)){2,}\s*\Z",
            "looks like JSON Lines, send one acceptance per message",
        ),
    )
)
_IDENTIFIER: Final = re.compile(r"[\w.-]{1,64}", re.ASCII)
_S3_POINTERS: Final = (
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
)
# `eventSource` of the first record, as written by AWS Lambda and S3.
_RECORDS_OF: Final = {
    "aws:s3": "an S3 event notification",
    "aws:sns": "an SNS event for AWS Lambda",
    "aws:sqs": "an SQS event for AWS Lambda",
    "aws:kinesis": "a Kinesis event for AWS Lambda",
    "aws:dynamodb": "a DynamoDB Streams event for AWS Lambda",
}
# A fixed list: a name from the message may be personal data.
_WRAPPERS: Final = (
    "acceptance", "body", "Body", "data", "detail", "event", "item", "message", "Message",
    "MessageBody", "payload", "record",
)  # fmt: skip
_SNS_HANDSHAKES: Final = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


def of_text(raw: bytes) -> str:
    """Return what a text that is not JSON looks like.

    Args:
        raw: Text; only its beginning is examined.

    Returns:
        A few words without any part of the text; empty if nothing is recognised.
    """
    head = raw[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((hint for format_, hint in _TEXTS if format_.match(head)), _of_base64(head))


def of_value(data: Any) -> str:
    """Return what JSON that is not an acceptance looks like.

    Returns:
        A few words without any value; empty if nothing is recognised.
    """
    if isinstance(data, str):
        return _of_string(data)
    if isinstance(data, list):
        return _of_array(data)
    return _of_object(data) if isinstance(data, dict) else ""


def of_missing(field: str, data: Mapping[str, Any]) -> str:
    """Return a similar name to that of a missing field.

    Returns:
        Words in parentheses; empty without a similar name.
    """
    names = {
        _normalised(name): name
        for name in list(data)[:_NAMES_MAX]
        if name != field and _IDENTIFIER.fullmatch(name.replace(" ", ""))
    }
    close = difflib.get_close_matches(_normalised(field), names, n=1, cutoff=0.85)
    return f" (found {names[close[0]]}, did you mean {field}?)" if close else ""


def _normalised(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name[:_NAME_MAX_CHARACTERS]).lower()


def _of_base64(head: bytes) -> str:
    text = b"".join(head.split())
    if not _BASE64.fullmatch(text):
        return ""
    whole = text[: len(text.rstrip(b"=")) // 4 * 4].translate(bytes.maketrans(b"-_", b"+/"))
    content = base64.b64decode(whole)
    if content.startswith(_GZIP):
        return "looks like base64 of gzip, send the JSON itself"
    is_json = content.lstrip().startswith((b"{", b"["))
    return "looks like base64 of JSON, send the JSON itself" if is_json else ""


def _of_string(data: str) -> str:
    if _is_object(data):
        return "JSON encoded twice, send an object instead of a string"
    return of_text(data[:_HEAD_BYTES].encode("utf-8", "replace"))


def _of_array(data: list[Any]) -> str:
    first = data[0] if data else None
    if first in _S3_POINTERS:
        return "an S3 pointer of the SQS Extended Client Library, send the acceptance itself"
    if _is_acceptance(first):
        return f"an array of {len(data)} acceptances, send one per message"
    return ""


def _of_object(data: dict[str, Any]) -> str:
    if data.get("Event") == "s3:TestEvent":
        return "an S3 test event, sent when the notifications of a bucket are configured"
    if data.get("Type") in _SNS_HANDSHAKES:
        return f"an SNS {data['Type']}, check the subscription of this queue"
    records = data.get("Records")
    if isinstance(records, list):
        first = records[0] if records and isinstance(records[0], dict) else {}
        source = str(first.get("eventSource") or first.get("EventSource"))
        kind = _RECORDS_OF.get(source, "a list of Records")
        return f"{kind}, send one acceptance per message"
    for name in _WRAPPERS:
        if _is_object(data.get(name)) or _is_acceptance(data.get(name)):
            return f"an acceptance inside {name}, send it without this wrapper"
    return ""


def _is_object(value: object) -> bool:
    """Return whether a value is a text that looks like a JSON object."""
    return isinstance(value, str) and value[:_HEAD_BYTES].lstrip().startswith("{")


def _is_acceptance(value: object) -> bool:
    names = {"event_id", "user_id", "eventId", "userId"}
    return isinstance(value, dict) and not names.isdisjoint(value)
