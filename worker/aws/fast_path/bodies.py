"""What the calls say and what they are told, as JSON."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from boto3.dynamodb.types import TypeSerializer
from pydantic_core import from_json

from worker.aws.responses import NoResponseError, is_empty, is_foreign

_OK: Final = 200
_QUEUE: Final = {"QueueUrl": "https://sqs.invalid/1/queue"}
# A request for each operation that is known here: the SDK and we must write the same for it.
SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "ReceiveMessage": {**_QUEUE, "MaxNumberOfMessages": 1, "MessageAttributeNames": ["All"]},
    "DeleteMessageBatch": {**_QUEUE, "Entries": [{"Id": "0", "ReceiptHandle": "é"}]},
    "ChangeMessageVisibilityBatch": {
        **_QUEUE, "Entries": [{"Id": "0", "ReceiptHandle": "h", "VisibilityTimeout": 1}],
    },
    "SendMessageBatch": {
        **_QUEUE,
        "Entries": [{
            "Id": "0", "MessageBody": "b",
            "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": b"\0"}},
        }],
    },
    "BatchExecuteStatement": {"Statements": [{"Statement": "s", "Parameters": ["é", b"\0", 1]}]},
    "PutItem": {"TableName": "table", "Item": {"user_id": "u", "ip_salt": b"\0"}},
}  # fmt: skip


def _base64(value: Any) -> str:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(f"{type(value).__name__} has no place in a request")
    return base64.b64encode(value).decode()


# The SDK's own way to write JSON, and so byte for byte what it would send.
_encode: Final = json.JSONEncoder(default=_base64).encode
_serialize: Final = TypeSerializer().serialize
_quoted: Final = lru_cache(maxsize=1024)(encode_basestring_ascii)


def request_body(operation: str, request: Mapping[str, Any]) -> bytes:
    """Write a request's body.

    Args:
        operation: one of `SAMPLES`.
        request: what the SDK's method takes; items and parameters as plain values.

    Raises:
        TypeError: a value cannot be sent.
    """
    if operation == "BatchExecuteStatement":
        return _statements(**request)
    if operation == "PutItem":
        item = {name: _typed(value) for name, value in request["Item"].items()}
        request = {**request, "Item": item}
    return _encode(request).encode()


def _statements(Statements: list[Mapping[str, Any]]) -> bytes:  # noqa: N803 - AWS's name
    # Hundreds of values in a call: written at once, not built and then written.
    return f'{{"Statements": [{", ".join([_statement(**each) for each in Statements])}]}}'.encode()


def _statement(Statement: str, Parameters: list[Any]) -> str:  # noqa: N803 - AWS's names
    values = ", ".join(
        [
            f'{{"S": {encode_basestring_ascii(value)}}}' if type(value) is str else _value(value)
            for value in Parameters
        ]
    )
    return f'{{"Statement": {_quoted(Statement)}, "Parameters": [{values}]}}'


def _typed(value: Any) -> Any:
    return {"S": value} if type(value) is str else _serialize(value)


def _value(value: Any) -> str:
    if type(value) is bytes:
        return f'{{"B": "{base64.b64encode(value).decode()}"}}'
    return _encode(_serialize(value))


def read_answer(
    operation: str, members: frozenset[str] | None, status_code: int, body: bytes
) -> dict[str, Any]:
    """Read the response to a request that succeeded.

    Args:
        operation: one of `SAMPLES`.
        members: what its response may hold; None where nothing is specified.
        status_code: of HTTP, below 300.
        body: of the response.

    Returns:
        What the SDK's method returns, without metadata; of a received message that cannot be read
        only what can be.

    Raises:
        NoAnswerError: AWS cannot have given this response.
    """
    if is_empty(operation, status_code, body):
        return {}
    try:
        answer = _loaded(body)
        if status_code != _OK or is_foreign(answer, members):
            raise NoResponseError(status_code, body)
        if operation == "ReceiveMessage" and "Messages" in answer:
            answer["Messages"] = [_message(each) for each in _list(answer["Messages"])]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise NoResponseError(status_code, body) from error
    return answer


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        answer = from_json(body)
    except ValueError:
        # It refuses some text that the SDK reads, such as half a surrogate pair.
        answer = json.loads(body.decode())
    return _stated(answer)


def _stated(structure: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, which the SDK takes for absent."""
    if None in structure.values():
        return {name: value for name, value in structure.items() if value is not None}
    return structure


def _message(message: Any) -> Any:
    # What is malformed is left as it is: whoever reads the message leaves it in the queue.
    if not isinstance(message, dict):
        return message
    message = _stated(message)
    attributes = message.get("MessageAttributes")
    if attributes and isinstance(attributes, dict):
        message["MessageAttributes"] = {
            name: _attribute(value) for name, value in attributes.items()
        }
    return message


def _attribute(attribute: Any) -> Any:
    if not isinstance(attribute, dict):
        return attribute
    attribute = _stated(attribute)
    if "BinaryValue" in attribute:
        with contextlib.suppress(ValueError, TypeError):
            attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return attribute
