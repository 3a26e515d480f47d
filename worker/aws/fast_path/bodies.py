"""JSON bodies of requests and responses on the signed fast path."""

from __future__ import annotations

import base64
import contextlib
import json
from binascii import b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import TypeSerializer

from worker.aws.responses import read_object

if TYPE_CHECKING:
    from botocore.model import OperationModel

_QUEUE: Final = {"QueueUrl": "https://sqs.invalid/1/queue"}
# A request for each supported operation, for which the SDK must write the same body.
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
        raise TypeError(f"{type(value).__name__} is not allowed in a request")
    return base64.b64encode(value).decode()


# The SDK's own JSON encoder, so that bodies are identical byte for byte.
_encode: Final = json.JSONEncoder(default=_base64).encode
_serialize: Final = TypeSerializer().serialize
_quoted: Final = lru_cache(maxsize=1024)(encode_basestring_ascii)


def request_body(operation: str, request: Mapping[str, Any]) -> bytes:
    """Return the body of a request.

    Args:
        operation: One of `SAMPLES`.
        request: Arguments of the SDK's method; items and parameters as plain values.

    Raises:
        TypeError: A value cannot be sent.
    """
    if operation == "BatchExecuteStatement":
        return _statements(**request)
    if operation == "PutItem":
        item = {name: _typed(value) for name, value in request["Item"].items()}
        request = {**request, "Item": item}
    return _encode(request).encode()


def _statements(Statements: list[Mapping[str, Any]]) -> bytes:  # noqa: N803 - AWS's name
    # Hundreds of values per call: written directly, without building a structure first.
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
        return f'{{"B": "{b2a_base64(value, newline=False).decode()}"}}'
    return _encode(_serialize(value))


def read_response(operation_model: OperationModel, status_code: int, body: bytes) -> dict[str, Any]:
    """Return the content of a successful response.

    Args:
        operation_model: Model of one of `SAMPLES`.
        status_code: HTTP status below 300.
        body: Body of the response.

    Returns:
        Result of the SDK's method without metadata. Malformed messages are left as they are.

    Raises:
        NoResponseError: AWS cannot have sent the response.
    """
    response = _without_nulls(read_object(operation_model, status_code, body))
    if "Messages" in response:
        response["Messages"] = [_message(each) for each in response["Messages"]]
    return response


def _without_nulls(structure: dict[str, Any]) -> dict[str, Any]:
    """Return a structure without null members, which the SDK treats as absent."""
    if None in structure.values():
        return {name: value for name, value in structure.items() if value is not None}
    return structure


def _message(message: Any) -> Any:
    # Malformed parts stay as they are: the reader of messages rejects the message.
    if not isinstance(message, dict):
        return message
    message = _without_nulls(message)
    attributes = message.get("MessageAttributes")
    if attributes and isinstance(attributes, dict):
        message["MessageAttributes"] = {
            name: _attribute(value) for name, value in attributes.items()
        }
    return message


def _attribute(attribute: Any) -> Any:
    if not isinstance(attribute, dict):
        return attribute
    attribute = _without_nulls(attribute)
    if "BinaryValue" in attribute:
        with contextlib.suppress(ValueError, TypeError):
            attribute["BinaryValue"] = base64.b64decode(attribute["BinaryValue"])
    return attribute
