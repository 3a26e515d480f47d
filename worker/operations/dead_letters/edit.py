"""Edits that an operator makes to a dead letter before it is replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from worker.domain.acceptance import Acceptance
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE, original
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.domain.strict_json import DuplicateNameError, read_text
from worker.errors import EditError, UsageError

# Members in which CloudEvents and EventBridge hold an acceptance as an object.
_ENVELOPES: Final = frozenset({"data", "detail"})
# Changes below this depth are reported with the path of the object at this depth.
_DEPTH_MAX: Final = 20
_ABSENT: Final = object()


EditFunction = Callable[[ReceivedMessage], OutgoingMessage]
"""Return the message to send for a dead letter, or raise `EditError`."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A value to set in the body of a dead letter.

    Attributes:
        path: Names of the members that lead to the field, the outermost first.
        value: JSON value.
    """

    path: tuple[str, ...]
    value: Any


def parse_assignment(text: str) -> Assignment:
    """Parse `field=value`, where the field is a path with dots.

    The value has the type of the field: `version=1` sets the string "1". For a field that an
    acceptance does not define, the value is JSON if it can be parsed as JSON, and text otherwise.

    Raises:
        UsageError: The text is not an assignment, or an object in the value has a duplicate name.
    """
    name, equals, value = text.partition("=")
    path = tuple(name.split("."))
    if not equals or not all(path):
        raise UsageError(
            f"--set {text}: must be field=value, for example user_id=u-42 or data.version=2"
        )
    try:
        parsed = read_text(value, parse_constant=_reject_constant)
        json.dumps(parsed, allow_nan=False)
    except DuplicateNameError as error:
        raise UsageError(f"--set {name}: {error}") from None
    except (ValueError, RecursionError):
        parsed = value
    return Assignment(path, parsed if _is_allowed(path, parsed) else value)


def _is_allowed(path: tuple[str, ...], value: Any) -> bool:
    """Return whether a field accepts a value; fields that an acceptance defines are strings."""
    defined = Acceptance.model_fields.get(path[-1])
    if defined is None or not _ENVELOPES.issuperset(path[:-1]) or isinstance(value, str):
        return True
    return value is None and type(None) in get_args(defined.annotation)


def edit_fields(assignments: Sequence[Assignment]) -> EditFunction:
    """Return an edit that sets fields of the body, which must be a JSON object."""

    def edit(message: ReceivedMessage) -> OutgoingMessage:
        plain = original(message)
        data = _object(plain.body)
        before = json.dumps(data)
        for each in assignments:
            _assign(data, each)
        # A body that does not change keeps its bytes.
        return plain if json.dumps(data) == before else replace(plain, body=_to_json(data))

    return edit


def _object(body: str) -> dict[str, Any]:
    try:
        data = read_text(body, parse_constant=_reject_constant)
    except DuplicateNameError as error:
        # An edit must not decide which of two values becomes evidence.
        raise EditError(
            f"the body is ambiguous ({error}); export it, edit the file, then use replay --from"
        ) from None
    except (ValueError, RecursionError):
        raise EditError(
            "the body is not JSON; export it, edit the file, then use replay --from"
        ) from None
    if not isinstance(data, dict):
        raise EditError("the body is not a JSON object")
    return data


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _assign(data: dict[str, Any], assignment: Assignment) -> None:
    parent = data
    for depth, name in enumerate(assignment.path[:-1], start=1):
        inner = parent.get(name)
        if not isinstance(inner, dict):
            raise EditError(f"{'.'.join(assignment.path[:depth])} is not an object in the body")
        parent = inner
    parent[assignment.path[-1]] = assignment.value


def _to_json(data: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which needs an escape
        return json.dumps(data, allow_nan=False)
    except ValueError:
        raise EditError("the body contains a number that exceeds the range of a double") from None
    return text


def replace_with_export(exported: Mapping[str, OutgoingMessage]) -> EditFunction:
    """Return an edit that sends the messages of an export file instead.

    Args:
        exported: Messages by the ids of their dead letters, with or without the dead-letter
            attribute.
    """

    def edit(message: ReceivedMessage) -> OutgoingMessage:
        if message.message_id not in exported:
            raise EditError("the file contains the id of its original, but not its own id")
        wanted = original(exported[message.message_id])
        kept = _without_marks(wanted.attributes)
        known = original(message).attributes.get(REPLAYS_ATTRIBUTE)
        # The number of replays comes from the queue, never from the file.
        mark = {} if known is None else {REPLAYS_ATTRIBUTE: known}
        return replace(wanted, attributes={**kept, **mark})

    return edit


def _without_marks(attributes: Mapping[str, Any]) -> dict[str, Any]:
    marks = {ATTRIBUTE, REPLAYS_ATTRIBUTE}
    return {name: value for name, value in attributes.items() if name not in marks}


def changed_names(before: OutgoingMessage, after: OutgoingMessage) -> tuple[str, ...]:
    """Return the names of the fields that differ between two messages, without their values."""
    names = list(_changed_fields(before.body, after.body)) if before.body != after.body else []
    old, new = _without_marks(before.attributes), _without_marks(after.attributes)
    names += [
        f"attribute {name}" for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    ]
    if before.trace_header != after.trace_header:
        names.append("trace header")
    if before.group_id != after.group_id:
        names.append("group id")
    return tuple(names)


def _changed_fields(before: str, after: str) -> Iterator[str]:
    try:
        old, new = json.loads(before), json.loads(after)
    except (ValueError, RecursionError):
        old = new = None
    names = list(_differing_paths(old, new, "", 0)) if isinstance(old, dict) else []
    # The bytes differ in any case: in white space, in the order of fields, or outside an object.
    yield from [name for name in names if name] or ["body"]


def _differing_paths(old: Any, new: Any, path: str, depth: int) -> Iterator[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)) or depth == _DEPTH_MAX:
        if old != new or type(old) is not type(new):
            yield path
        return
    for name in sorted({*old, *new}):
        inner = f"{path}.{name}" if path else name
        yield from _differing_paths(
            old.get(name, _ABSENT), new.get(name, _ABSENT), inner, depth + 1
        )
