"""Checks that reject responses which AWS cannot have sent."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import BotoCoreError

from worker.runtime.redaction import digest

if TYPE_CHECKING:
    from botocore.model import OperationModel

_OK: Final = 200
_FIRST_ERROR: Final = 300
# The operation for which an empty body means the same as an empty object, without loss.
_HARMLESS_IF_EMPTY: Final = "ReceiveMessage"


class NoResponseError(BotoCoreError):
    """HTTP reports success, but AWS cannot have sent the response."""

    fmt = "HTTP {status_code}, but not a response from AWS: {digest}"
    quotes_no_response = True

    def __init__(self, status_code: int, body: bytes) -> None:
        super().__init__(status_code=status_code, digest=digest(body))


def check_response(
    operation_model: OperationModel, response_dict: dict[str, Any], **_: object
) -> None:
    """Check a response before the SDK parses it; a handler of its event `before-parse`.

    Replace the body of an error response that the SDK cannot parse. The SDK also fails a whole
    ReceiveMessage response for one malformed message: replace the message by an object that the
    SDK can parse and that the reader of messages rejects.

    Raises:
        NoResponseError: The response reports success, but AWS cannot have sent it.
    """
    body, status_code = response_dict["body"], response_dict["status_code"]
    if not body and operation_model.output_shape is None:
        return
    if status_code < _FIRST_ERROR:
        response = read_object(operation_model, status_code, body)
        messages = response.get("Messages") or []
        if not all(map(_is_readable, messages)):
            kept = [each if _is_readable(each) else _identified(each) for each in messages]
            response_dict["body"] = json.dumps({**response, "Messages": kept}).encode()
    elif not isinstance(_json(body), dict):
        # An error by its status; the SDK parses its body reliably only if it is a JSON object.
        text = f"not a JSON object: {digest(body)}"
        response_dict["body"] = json.dumps({"message": text}).encode()


def read_object(operation_model: OperationModel, status_code: int, body: bytes) -> dict[str, Any]:
    """Return the JSON object of a successful response.

    Args:
        operation_model: Model of the operation, which lists the members of its response.
        status_code: HTTP status below 300.
        body: Body of the response.

    Returns:
        The object, whose messages are a list if it has any; empty for an empty body that means
        the same.

    Raises:
        NoResponseError: AWS cannot have sent the response.
    """
    if not body and status_code == _OK and operation_model.name == _HARMLESS_IF_EMPTY:
        return {}
    response = _json(body)
    if (
        status_code != _OK
        or not isinstance(response, dict)
        or _is_foreign(operation_model, response)
        or not isinstance(response.get("Messages"), list | None)
    ):
        raise NoResponseError(status_code, body)
    return response


def _is_foreign(operation_model: OperationModel, response: dict[str, Any]) -> bool:
    """Return whether an object has members, but none of those that the operation returns."""
    shape = operation_model.output_shape
    return bool(response) and shape is not None and response.keys().isdisjoint(shape.members)


def _json(body: bytes) -> Any:
    """Return the value of a JSON body; None if it is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        pass  # It rejects some text that the SDK accepts, such as half a surrogate pair.
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def _is_readable(message: Any) -> bool:
    try:
        attributes = message.get("MessageAttributes")
        for attribute in ({} if attributes is None else attributes).values():
            base64.b64decode(attribute.get("BinaryValue") or "")
    except (AttributeError, TypeError, ValueError):
        return False
    return isinstance(message.get("Attributes"), dict | None)


def _identified(message: Any) -> dict[str, Any]:
    found = message.get("MessageId") if isinstance(message, dict) else None
    return {"MessageId": found} if isinstance(found, str) else {}
