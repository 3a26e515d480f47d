"""Shortcuts in moto for what it computes anew in every call; as a program, moto with them.

For each message sent or received it computes every attribute of the queue, which counts all its
messages three times, and asks a slow clock for each. For each attribute of an item that it returns,
it looks for every type that the value might have, under several names.
"""

import functools
import time
from typing import Any, Final

from moto import backends, server
from moto.core import responses, serialize
from moto.sqs import models

_BACKENDS: Final[Any] = backends
_RESPONSES: Final[Any] = responses
_SQS: Final[Any] = models
_SERIALIZER: Final[Any] = serialize.ResponseSerializer
_serialize_any_structure: Final = _SERIALIZER._serialize_type_structure
_method_names: Final = functools.cache(_RESPONSES.method_names_from_class)
_MODULES: Final = tuple(backends.list_of_moto_modules())


def use_shortcuts() -> None:
    """Replace functions of moto by quicker ones with the same results."""
    _SQS.unix_time = time.time
    _SQS.unix_time_millis = lambda: time.time() * 1000
    _SQS.SQSBackend.is_message_valid_based_on_retention_period = _is_retained
    _BACKENDS.list_of_moto_modules = lambda: _MODULES
    _RESPONSES.method_names_from_class = _method_names
    _SERIALIZER._serialize_type_structure = _serialize_structure


def _is_retained(backend: Any, queue_name: str, message: Any) -> bool:
    seconds: float = backend.get_queue(queue_name).message_retention_period
    return bool(seconds + message.sent_timestamp / 1000 > time.time())


def _serialize_structure(
    serializer: Any, serialized: Any, value: Any, shape: Any, key: str
) -> None:
    if shape.name != "AttributeValue" or not isinstance(value, dict) or not key:
        _serialize_any_structure(serializer, serialized, value, shape, key)
        return
    typed = serializer.MAP_TYPE()
    for member, each in value.items():
        serializer._serialize(typed, each, shape.members[member], member)
    serializer._default_serialize(serialized, typed, shape, key)


if __name__ == "__main__":
    use_shortcuts()
    server.main()
