"""Parser of the expressions and statements that the simulation supports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.conditions import (  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
    ConditionBase,
    ConditionExpressionBuilder,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = r"[#\w][\w.-]*"
_EXISTENCE = re.compile(rf"\(?\s*(attribute_(?:not_)?exists)\s*\(\s*({_NAME})\s*\)\s*\)?")
_EQUALS = re.compile(rf"({_NAME})\s*=\s*(:\w+)")
_BEGINS_WITH = re.compile(rf"begins_with\s*\(\s*({_NAME})\s*,\s*(:\w+)\s*\)")
_AND = re.compile(r"\s+AND\s+", re.IGNORECASE)
_INSERT = re.compile(r"""\s*INSERT\s+INTO\s+"([\w.-]+)"\s+VALUE\s+\{(.*)\}\s*""", re.IGNORECASE)
_MEMBER = re.compile(r"\s*'((?:[^']|'')+)'\s*:\s*\?\s*")


_UPDATE = re.compile(r"""\s*UPDATE\s+"([\w.-]+)"\s+(SET .*?)\s+WHERE\s+(.*)""", re.IGNORECASE)
_SET = re.compile(r"""SET\s+"([\w.-]+)"\s*=\s*\?\s*""", re.IGNORECASE)
_CONDITION = re.compile(r"""\s*"([\w.-]+)"\s*(=\s*\?|IS\s+MISSING)\s*""", re.IGNORECASE)


class ExpressionError(ValueError):
    """The expression is malformed or not supported by the simulation."""


@dataclass(frozen=True, slots=True)
class Existence:
    """Condition that an attribute exists or does not exist."""

    attribute: str
    exists: bool

    def holds(self, item: Mapping[str, Any] | None) -> bool:
        """Return whether the item, or its absence, meets the condition."""
        return (item is not None and self.attribute in item) == self.exists


@dataclass(frozen=True, slots=True)
class KeyCondition:
    """Condition on the partition key and optionally on the sort key."""

    equal: Mapping[str, Any]
    prefixes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Insert:
    """Parsed INSERT: table, and the attribute name of each parameter."""

    table_name: str
    attributes: tuple[str, ...]

    def item(self, parameters: Sequence[Any]) -> dict[str, Any]:
        """Return the item with the given parameters."""
        if len(parameters) != len(self.attributes):
            raise ExpressionError("Number of parameters in request and statement don't match")
        return dict(zip(self.attributes, parameters, strict=True))


@dataclass(frozen=True, slots=True)
class Amendment:
    """Parsed UPDATE: changes, required values and attributes that must be missing."""

    table_name: str
    changes: Mapping[str, Any]
    equal: Mapping[str, Any]
    missing: tuple[str, ...]


def update_statement(text: str, parameters: Sequence[Any]) -> Amendment:
    """Parse `UPDATE "table" SET "a" = ? WHERE "b" = ? AND "c" IS MISSING`."""
    match = _UPDATE.fullmatch(text)
    if match is None or _SET.sub("", match[2]).strip():
        raise ExpressionError("Statement wasn't well formed, can't be processed")
    conditions = [_CONDITION.fullmatch(part) for part in _AND.split(match[3])]
    names = [*_SET.findall(match[2])]
    count = len(names)
    names += [condition[1] for condition in conditions if condition and "?" in condition[2]]
    if None in conditions or len(parameters) != len(names):
        raise ExpressionError("Statement wasn't well formed, can't be processed")
    return Amendment(
        match[1],
        dict(zip(names[:count], parameters[:count], strict=True)),
        dict(zip(names[count:], parameters[count:], strict=True)),
        tuple(condition[1] for condition in conditions if condition and "?" not in condition[2]),
    )


def existence_conditions(expression: Any, names: Mapping[str, str] | None) -> tuple[Existence, ...]:
    """Parse `attribute_exists(a)` and `attribute_not_exists(a)`, joined by AND."""
    if expression is None:
        return ()
    text, known, _ = _as_text(expression, names, None, is_key=False)
    conditions = []
    for part in _AND.split(text):
        match = _EXISTENCE.fullmatch(part)
        if match is None:
            raise ExpressionError(f"Invalid ConditionExpression: {text}")
        attribute = _resolved(match[2], known)
        conditions.append(Existence(attribute, match[1] == "attribute_exists"))
    return tuple(conditions)


def key_condition(
    expression: Any, names: Mapping[str, str] | None, values: Mapping[str, Any] | None
) -> KeyCondition:
    """Parse `#u = :u`, and `AND #v = :v` or `AND begins_with(#v, :v)` after it."""
    text, names, values = _as_text(expression, names, values, is_key=True)
    equal: dict[str, Any] = {}
    prefixes: dict[str, str] = {}
    bare = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    for part in _AND.split(bare.strip()):
        if match := _EQUALS.fullmatch(part):
            equal[_resolved(match[1], names)] = _resolved(match[2], values)
        elif match := _BEGINS_WITH.fullmatch(part):
            prefixes[_resolved(match[1], names)] = _resolved(match[2], values)
        else:
            raise ExpressionError(f"Invalid KeyConditionExpression: {text}")
    return KeyCondition(equal, prefixes)


def assignments(
    expression: str, names: Mapping[str, str] | None, values: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Parse `SET #a = :a, b = :b`."""
    verb, _, rest = expression.strip().partition(" ")
    assigned: dict[str, Any] = {}
    for part in rest.split(","):
        match = _EQUALS.fullmatch(part.strip())
        if verb.upper() != "SET" or match is None:
            raise ExpressionError(f"Invalid UpdateExpression: {expression}")
        assigned[_resolved(match[1], names or {})] = _resolved(match[2], values or {})
    return assigned


@lru_cache(maxsize=256)
def insert_statement(text: str) -> Insert:
    """Parse `INSERT INTO "table" VALUE {'a': ?, 'b': ?}`."""
    match = _INSERT.fullmatch(text)
    members = [_MEMBER.fullmatch(part) for part in match[2].split(",")] if match else [None]
    attributes = tuple(member[1].replace("''", "'") for member in members if member)
    if match is None or len(attributes) < len(members):
        raise ExpressionError("Statement wasn't well formed, can't be processed")
    return Insert(match[1], attributes)


def _as_text(
    expression: Any,
    names: Mapping[str, str] | None,
    values: Mapping[str, Any] | None,
    *,
    is_key: bool,
) -> tuple[str, Mapping[str, str], Mapping[str, Any]]:
    if not isinstance(expression, ConditionBase):
        return expression, names or {}, values or {}
    built = ConditionExpressionBuilder().build_expression(expression, is_key_condition=is_key)
    return (
        built.condition_expression,
        {**(names or {}), **built.attribute_name_placeholders},
        {**(values or {}), **built.attribute_value_placeholders},
    )


def _resolved(token: str, placeholders: Mapping[str, Any]) -> Any:
    if token[0] not in "#:":
        return token
    if token not in placeholders:
        raise ExpressionError(f"An expression placeholder is not defined: {token}")
    return placeholders[token]
