"""JSON bodies of requests and responses on the signed fast path."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from boto3.dynamodb.types import Binary, TypeSerializer

from worker.aws.responses import read_object

if TYPE_CHECKING:
    from botocore.model import OperationModel

_QUEUE: Final = {"QueueUrl": "https://sqs.invalid/1/queue"}
# A request for each supported operation, for which the SDK must send the same JSON.
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


class _Text(msgspec.Struct, gc=False):
    S: str


class _Bytes(msgspec.Struct, gc=False):
    B: bytes


# DynamoDB's form of the values of items; creating a dictionary for each would take longer.
_TYPED: Final[Mapping[type, Callable[[Any], Any]]] = {str: _Text, bytes: _Bytes}
_serialize: Final = TypeSerializer().serialize


def _sendable(value: Any) -> Any:
    """Return what JSON can hold in place of a value of another type."""
    if isinstance(value, Binary):  # of boto3's serializer
        return value.value
    raise TypeError(f"{type(value).__name__} is not allowed in a request")


_encode: Final = msgspec.json.Encoder(enc_hook=_sendable).encode


def request_body(operation: str, request: Mapping[str, Any]) -> bytes:
    """Return the body of a request, JSON with the meaning of the SDK's.

    Args:
        operation: One of `SAMPLES`.
        request: Arguments of the SDK's method; items and parameters as plain values.

    Raises:
        TypeError: A value cannot be sent.
    """
    if operation == "BatchExecuteStatement":
        statements = [
            {**each, "Parameters": _typed(each["Parameters"])} for each in request["Statements"]
        ]
        request = {**request, "Statements": statements}
    elif operation == "PutItem":
        item = request["Item"]
        request = {**request, "Item": dict(zip(item, _typed(item.values()), strict=True))}
    try:
        return _encode(request)
    except UnicodeEncodeError:  # a lone surrogate, which the SDK escapes
        return json.dumps(msgspec.to_builtins(request, enc_hook=_sendable)).encode()


def _typed(values: Collection[Any]) -> list[Any]:
    try:
        return [_TYPED[type(value)](value) for value in values]
    except KeyError:
        return [_serialize(value) for value in values]


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
