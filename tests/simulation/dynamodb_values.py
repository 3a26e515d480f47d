"""Conversion of Python values to those that a boto3 DynamoDB resource returns."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from boto3.dynamodb.types import (  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
    DYNAMODB_CONTEXT,
    Binary,
)


def to_stored(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an item with its values as they will be read."""
    return {
        name: value if type(value) is str else to_stored_value(value)
        for name, value in item.items()
    }


def to_response(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an item, so that a caller cannot change the stored one."""
    return {
        name: _copied(value) if type(value) in (dict, list, set) else value
        for name, value in item.items()
    }


def size(item: Mapping[str, Any]) -> int:
    """Return the size of an item in bytes, roughly as DynamoDB bills it."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Any) -> int:
    if isinstance(value, bytes | Binary):
        return len(bytes(value))
    return len(value.encode() if isinstance(value, str) else repr(value))


def to_stored_value(value: Any) -> Any:
    """Return a copy of a value as it will be read."""
    if value is None or isinstance(value, bool | str | Binary):
        return value
    if isinstance(value, bytes | bytearray):
        return Binary(value)
    if isinstance(value, float):
        raise TypeError("Float types are not supported. Use Decimal types instead.")
    if isinstance(value, int | Decimal):
        return DYNAMODB_CONTEXT.create_decimal(value)
    if isinstance(value, Mapping):
        return to_stored(value)
    if isinstance(value, list | tuple):
        return [to_stored_value(element) for element in value]
    if isinstance(value, set | frozenset) and value:
        return {to_stored_value(element) for element in value}
    raise TypeError(f'Unsupported type "{type(value)}" for value "{value}"')


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return to_response(value)
    if isinstance(value, list):
        return [_copied(element) for element in value]
    return set(value) if isinstance(value, set) else value
