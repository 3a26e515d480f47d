"""Edits that an operator makes to a dead letter before it is replayed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

from worker.domain.acceptance import Acceptance
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE, original
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.domain.strict_json import DuplicateNameError, members, read_text
from worker.errors import EditError, UsageError

# Members in which CloudEvents and EventBridge hold an acceptance as an object.
_ENVELOPES: Final = frozenset({"data", "detail"})
# Changes below this depth are reported with the path of the object at this depth.
_DEPTH_MAX: Final = 20
_ABSENT: Final = object()


EditFunction = Callable[[ReceivedMessage], OutgoingMessage]
"""Return the message to send for a dead letter, or raise `EditError`."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it is written."""

    text: str


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
    """Return an edit that sets fields of the body, which must be a JSON object.

    All other values stay as they are written: a number that is parsed and written again may be
    another one.
    """

    def edit(message: ReceivedMessage) -> OutgoingMessage:
        plain = original(message)
        _check_object(plain.body)
        body = plain.body
        for each in assignments:
            body = _assigned(body, each.path, each.value)
        return replace(plain, body=body)

    return edit


def _check_object(body: str) -> None:
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


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _assigned(text: str, path: Sequence[str], value: Any, depth: int = 1) -> str:
    """Return the text of an object with a value at a path; the same text if it is there already."""
    found, name = members(text), path[depth - 1]
    before = found.get(name, "")
    if depth < len(path):
        if not before.startswith("{"):
            raise EditError(f"{'.'.join(path[:depth])} is not an object in the body")
        after = _assigned(before, path, value, depth + 1)
    else:
        is_same = name in found and _to_json(json.loads(before)) == _to_json(value)
        after = before if is_same else _to_json(value)
    if after == before:
        return text
    found[name] = after
    return f"{{{', '.join(f'{_to_json(each)}: {found[each]}' for each in found)}}}"


def _to_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which needs an escape
        return json.dumps(value)
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
        old, new = (
            # Different numbers may be the same double.
            json.loads(text, parse_float=_Number, parse_int=_Number)
            for text in (before, after)
        )
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
