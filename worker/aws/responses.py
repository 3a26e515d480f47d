"""Checks of responses, before the SDK or the signed fast path reads them."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from worker.runtime.redaction import digest

_OK: Final = 200
_FIRST_ERROR: Final = 300
# Operations of which an empty body says as much as an empty object, and loses nothing.
_HARMLESS_IF_EMPTY: Final = {"ReceiveMessage"}


class NoResponseError(BotoCoreError):
    """HTTP reports success, but AWS cannot have sent this response."""

    fmt = "HTTP {status_code}, but no response of AWS: {digest}"
    quotes_no_response = True

    def __init__(self, status_code: int, body: bytes) -> None:
        super().__init__(status_code=status_code, digest=digest(body))


def is_foreign(answer: dict[str, Any], members: frozenset[str] | None) -> bool:
    """Return whether an object holds something, but nothing that the operation's response has."""
    return bool(answer) and members is not None and members.isdisjoint(answer)


def is_empty(operation: str, status_code: int, body: bytes) -> bool:
    """Return whether a response says nothing, where that is as good as an empty object."""
    return not body and status_code == _OK and operation in _HARMLESS_IF_EMPTY


def check_response(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Check a response; handles the SDK's event `before-parse`.

    Replaces the body of an error that the SDK could not parse.

    Raises:
        NoResponseError: A response of success that AWS cannot have sent.
    """
    body, status_code = response_dict["body"], response_dict["status_code"]
    shape = operation_model.output_shape
    if not body and shape is None:
        return
    if status_code < _FIRST_ERROR:
        members = frozenset(shape.members) if shape is not None else None
        response_dict["body"] = checked_body(operation_model.name, members, status_code, body)
    elif not isinstance(_json(body), dict):
        # An error is an error whatever its body says; the SDK reads it reliably only as JSON.
        text = f"no JSON object: {digest(body)}"
        response_dict["body"] = json.dumps({"message": text}).encode()


def checked_body(
    operation: str, members: frozenset[str] | None, status_code: int, body: bytes
) -> bytes:
    """Check that AWS can have sent a response of success.

    Args:
        operation: AWS's name of it.
        members: what its response may hold; None where nothing is specified.
        status_code: of HTTP, below 300.
        body: of the response.

    Returns:
        A body that the SDK can read. It fails a whole response to ReceiveMessage for one malformed
        message; in the place of that one stands here what whoever reads the message refuses.

    Raises:
        NoAnswerError: AWS cannot have sent it.
    """
    if is_empty(operation, status_code, body):
        return body
    answer = _json(body)
    if status_code != _OK or not isinstance(answer, dict) or is_foreign(answer, members):
        raise NoResponseError(status_code, body)
    messages = answer.get("Messages") if operation == "ReceiveMessage" else None
    if messages is None:
        return body
    if not isinstance(messages, list):
        raise NoResponseError(status_code, body)
    if all(map(_is_readable, messages)):
        return body
    kept = [each if _is_readable(each) else _identified(each) for each in messages]
    return json.dumps({**answer, "Messages": kept}).encode()


def _json(body: bytes) -> Any:
    """Return what a body says in JSON; None if it is not JSON."""
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def _is_readable(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    system, attributes = message.get("Attributes"), message.get("MessageAttributes")
    if not isinstance(system, dict | None) or not isinstance(attributes, dict | None):
        return False
    return all(map(_is_readable_attribute, (attributes or {}).values()))


def _is_readable_attribute(attribute: Any) -> bool:
    if not isinstance(attribute, dict):
        return False
    try:
        base64.b64decode(attribute.get("BinaryValue") or "")
    except (TypeError, ValueError):
        return False
    return True


def _identified(message: Any) -> dict[str, Any]:
    found = message.get("MessageId") if isinstance(message, dict) else None
    return {"MessageId": found} if isinstance(found, str) else {}
