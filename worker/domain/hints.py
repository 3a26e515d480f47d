"""Recognition of other formats in rejected bodies, for the detail of the dead letter."""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Hint = str | None

# Enough to recognise every format; a body may have a mebibyte.
_HEAD_BYTES: Final = 4096
_NAMES_MAX: Final = 100
_NAME_MAX_CHARACTERS: Final = 64
_GZIP: Final = b"\x1f\x8b"
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_FORM: Final = re.compile(rb"[\w.~%+-]{1,64}=[^&=<>{}\s]*(?:&[\w.~%+-]{1,64}=[^&=<>{}\s]*)*\s*")
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
    return next((hint for recognise in _TEXTS if (hint := recognise(head))), "")


def of_value(data: Any) -> str:
    """Return what JSON that is not an acceptance looks like.

    Returns:
        A few words without any value; empty if nothing is recognised.
    """
    return next((hint for recognise in _VALUES if (hint := recognise(data))), "")


def of_missing(field: str, data: Mapping[str, Any]) -> str:
    """Return a similar name to that of a missing field.

    Returns:
        Words in parentheses; empty if there is no similar name.
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


def _empty(head: bytes) -> Hint:
    return None if head else "the text is empty"


def _encoded(head: bytes) -> Hint:
    if head.startswith(_GZIP):
        return "looks like gzip, send uncompressed JSON"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "looks like UTF-16, send UTF-8"
    inner = _decoded(b"".join(head.split()))
    if inner.startswith(_GZIP):
        return "looks like base64 of gzip, send the JSON itself"
    if inner.lstrip().startswith((b"{", b"[")):
        return "looks like base64 of JSON, send the JSON itself"
    return None


def _decoded(text: bytes) -> bytes:
    if _BASE64.fullmatch(text) is None:
        return b""
    whole = text[: len(text.rstrip(b"=")) // 4 * 4].translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(whole)


def _markup(head: bytes) -> Hint:
    if not head.startswith(b"<"):
        return None
    start = head[:200].lower()
    is_html = b"<html" in start or b"<!doctype html" in start
    return f"looks like {'HTML' if is_html else 'XML'}, send JSON"


def _form(head: bytes) -> Hint:
    if _FORM.fullmatch(head) is None or b"&" not in head:
        return None
    return "looks like an HTML form (application/x-www-form-urlencoded), send JSON"


def _python(head: bytes) -> Hint:
    return "looks like a Python dict, send JSON" if head.startswith(b"{'") else None


def _lines(head: bytes) -> Hint:
    rows = [row.strip() for row in head.split(b"\n") if row.strip()]
    if len(rows) < 2 or not all(row.startswith(b"{") for row in rows):  # noqa: PLR2004
        return None
    return "looks like JSON Lines, send one acceptance per message"


def _s3_pointer(data: Any) -> Hint:
    if not isinstance(data, list) or not data or data[0] not in _S3_POINTERS:
        return None
    return "an S3 pointer of the SQS Extended Client Library, send the acceptance itself"


def _several(data: Any) -> Hint:
    if isinstance(data, list) and data and isinstance(data[0], dict) and _is_acceptance(data[0]):
        return f"an array of {len(data)} acceptances, send one per message"
    return None


def _text(data: Any) -> Hint:
    if not isinstance(data, str):
        return None
    if data[:_HEAD_BYTES].lstrip().startswith("{"):
        return "JSON encoded twice, send an object instead of a string"
    return of_text(data[:_HEAD_BYTES].encode("utf-8", "replace")) or None


def _s3_test(data: Any) -> Hint:
    if isinstance(data, dict) and data.get("Event") == "s3:TestEvent":
        return "an S3 test event, sent when the notifications of a bucket are configured"
    return None


def _sns_handshake(data: Any) -> Hint:
    kind = data.get("Type") if isinstance(data, dict) else None
    if kind not in _SNS_HANDSHAKES:
        return None
    return f"an SNS {kind}, check the subscription of this queue"


def _records(data: Any) -> Hint:
    records = data.get("Records") if isinstance(data, dict) else None
    if not isinstance(records, list):
        return None
    first = records[0] if records and isinstance(records[0], dict) else {}
    source = first.get("eventSource") or first.get("EventSource")
    kind = _RECORDS_OF.get(source) if isinstance(source, str) else None
    return f"{kind or 'a list of Records'}, send one acceptance per message"


def _wrapped(data: Any) -> Hint:
    if not isinstance(data, dict):
        return None
    for name in _WRAPPERS:
        value = data.get(name)
        is_text = isinstance(value, str) and value[:_HEAD_BYTES].lstrip().startswith("{")
        if is_text or (isinstance(value, dict) and _is_acceptance(value)):
            return f"an acceptance inside {name}, send it without this wrapper"
    return None


def _is_acceptance(value: Mapping[str, Any]) -> bool:
    return not {"event_id", "user_id", "eventId", "userId"}.isdisjoint(value)


_TEXTS: Final[tuple[Callable[[bytes], Hint], ...]] = (
    _empty, _encoded, _markup, _form, _python, _lines,
)  # fmt: skip
_VALUES: Final[tuple[Callable[[Any], Hint], ...]] = (
    _s3_pointer, _several, _text, _s3_test, _sns_handshake, _records, _wrapped,
)  # fmt: skip
