"""Checks that reject responses which AWS cannot have sent."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from worker.runtime.redaction import digest

_OK: Final = 200
_FIRST_ERROR: Final = 300
# Operations for which an empty body means the same as an empty object, without loss.
_HARMLESS_IF_EMPTY: Final = {"ReceiveMessage"}


class NoResponseError(BotoCoreError):
    """HTTP reports success, but AWS cannot have sent the response."""

    fmt = "HTTP {status_code}, but not a response from AWS: {digest}"
    quotes_no_response = True

    def __init__(self, status_code: int, body: bytes) -> None:
        super().__init__(status_code=status_code, digest=digest(body))


def is_foreign(response: dict[str, Any], members: frozenset[str] | None) -> bool:
    """Return whether an object has members, but none of those that the operation returns."""
    return bool(response) and members is not None and members.isdisjoint(response)


def is_empty(operation: str, status_code: int, body: bytes) -> bool:
    """Return whether a body is empty where that means the same as an empty object."""
    return not body and status_code == _OK and operation in _HARMLESS_IF_EMPTY


def check_response(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Check a response before the SDK parses it; a handler of its event `before-parse`.

    Replace the body of an error response that the SDK cannot parse.

    Raises:
        NoResponseError: The response reports success, but AWS cannot have sent it.
    """
    body, status_code = response_dict["body"], response_dict["status_code"]
    shape = operation_model.output_shape
    if not body and shape is None:
        return
    if status_code < _FIRST_ERROR:
        members = frozenset(shape.members) if shape is not None else None
        response_dict["body"] = checked_body(operation_model.name, members, status_code, body)
    elif not isinstance(_json(body), dict):
        # An error by its status; the SDK parses its body reliably only if it is a JSON object.
        text = f"not a JSON object: {digest(body)}"
        response_dict["body"] = json.dumps({"message": text}).encode()


def checked_body(
    operation: str, members: frozenset[str] | None, status_code: int, body: bytes
) -> bytes:
    """Check that AWS can have sent a successful response.

    The SDK fails a whole ReceiveMessage response for one malformed message. Such a message is
    replaced by an object that the SDK can parse and that the reader of messages rejects.

    Args:
        operation: AWS's name of the operation.
        members: Members that the response may have; None if the operation specifies none.
        status_code: HTTP status below 300.
        body: Body of the response.

    Returns:
        A body that the SDK can parse.

    Raises:
        NoResponseError: AWS cannot have sent it.
    """
    if is_empty(operation, status_code, body):
        return body
    response = _json(body)
    if status_code != _OK or not isinstance(response, dict) or is_foreign(response, members):
        raise NoResponseError(status_code, body)
    messages = response.get("Messages") if operation == "ReceiveMessage" else None
    if messages is None:
        return body
    if not isinstance(messages, list):
        raise NoResponseError(status_code, body)
    if all(map(_is_readable, messages)):
        return body
    kept = [each if _is_readable(each) else _identified(each) for each in messages]
    return json.dumps({**response, "Messages": kept}).encode()


def _json(body: bytes) -> Any:
    """Return the value of a JSON body; None if it is not JSON."""
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
