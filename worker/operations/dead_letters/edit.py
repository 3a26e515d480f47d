"""What an operator changes in a dead letter before it is replayed."""

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

# Where envelopes hold an acceptance as an object: CloudEvents and EventBridge.
_ENVELOPES: Final = frozenset({"data", "detail"})
# Names deeper down are not told apart.
_DEPTH_MAX: Final = 20
_ABSENT: Final = object()


Repair = Callable[[ReceivedMessage], OutgoingMessage]
"""Give the message to be sent for a dead letter, or raise `EditError`."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One field that is to have a value.

    Attributes:
        path: names from the outermost object inwards.
        value: as JSON has it.
    """

    path: tuple[str, ...]
    value: Any


def assignment(text: str) -> Assignment:
    """Read `field=value`: the path has dots.

    The value has the field's own type: `version=1` sets the string "1". For a field that an
    acceptance does not define, it is JSON if it can be read as such, and text otherwise.

    Raises:
        UsageError: it is no assignment, or an object in the value has a name twice.
    """
    name, equals, value = text.partition("=")
    path = tuple(name.split("."))
    if not equals or not all(path):
        raise UsageError(f"--set {text}: write field=value, as in user_id=u-42 or data.version=2")
    try:
        parsed = read_text(value, parse_constant=_no_number)
        json.dumps(parsed, allow_nan=False)
    except DuplicateNameError as error:
        raise UsageError(f"--set {name}: {error}") from None
    except (ValueError, RecursionError):
        parsed = value
    return Assignment(path, parsed if _suits(path, parsed) else value)


def _suits(path: tuple[str, ...], value: Any) -> bool:
    """Return whether a field can have a value that is not text; all that are defined hold text."""
    defined = Acceptance.model_fields.get(path[-1])
    if defined is None or not _ENVELOPES.issuperset(path[:-1]) or isinstance(value, str):
        return True
    return value is None and type(None) in get_args(defined.annotation)


def setting(assignments: Sequence[Assignment]) -> Repair:
    """Give the repair that sets fields of a body, which must be a JSON object."""

    def repair(message: ReceivedMessage) -> OutgoingMessage:
        plain = original(message)
        data = _object(plain.body)
        before = json.dumps(data)
        for each in assignments:
            _assign(data, each)
        # What is as it should be keeps its bytes.
        return plain if json.dumps(data) == before else replace(plain, body=_written(data))

    return repair


def _object(body: str) -> dict[str, Any]:
    try:
        data = read_text(body, parse_constant=_no_number)
    except DuplicateNameError as error:
        # Setting a field must not decide which of two values becomes evidence.
        raise EditError(
            f"its body is ambiguous ({error}): export it, edit it, replay --from"
        ) from None
    except (ValueError, RecursionError):
        raise EditError("its body is not JSON: export it, edit it, replay --from") from None
    if not isinstance(data, dict):
        raise EditError("its body is no JSON object")
    return data


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _assign(data: dict[str, Any], wanted: Assignment) -> None:
    place = data
    for depth, name in enumerate(wanted.path[:-1], start=1):
        inner = place.get(name)
        if not isinstance(inner, dict):
            raise EditError(f"{'.'.join(wanted.path[:depth])} is no object in its body")
        place = inner
    place[wanted.path[-1]] = wanted.value


def _written(data: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:  # half a character, which only an escape can write
        return json.dumps(data, allow_nan=False)
    except ValueError:
        raise EditError("its body holds a number beyond a double's range") from None
    return text


def replacing(filed: Mapping[str, OutgoingMessage]) -> Repair:
    """Give the repair that sends what a file has instead.

    Args:
        filed: by message id, each with the attribute that says why it died, or without.
    """

    def repair(message: ReceivedMessage) -> OutgoingMessage:
        if message.message_id not in filed:
            raise EditError("its own id is not in the file, only its original's")
        wanted = original(filed[message.message_id])
        kept = _without_marks(wanted.attributes)
        known = original(message).attributes.get(REPLAYS_ATTRIBUTE)
        # How often it was replayed is for the queue to say, not for the file.
        mark = {} if known is None else {REPLAYS_ATTRIBUTE: known}
        return replace(wanted, attributes={**kept, **mark})

    return repair


def _without_marks(attributes: Mapping[str, Any]) -> dict[str, Any]:
    marks = {ATTRIBUTE, REPLAYS_ATTRIBUTE}
    return {name: value for name, value in attributes.items() if name not in marks}


def changed(before: OutgoingMessage, after: OutgoingMessage) -> tuple[str, ...]:
    """Name what differs between two messages, and tell no value."""
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
    names = list(_differing(old, new, "", 0)) if isinstance(old, dict) else []
    # Bytes differ in any case: in spaces, in the order of fields, or in what is no object.
    yield from [name for name in names if name] or ["body"]


def _differing(old: Any, new: Any, path: str, depth: int) -> Iterator[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)) or depth == _DEPTH_MAX:
        if old != new or type(old) is not type(new):
            yield path
        return
    for name in sorted({*old, *new}):
        place = f"{path}.{name}" if path else name
        yield from _differing(old.get(name, _ABSENT), new.get(name, _ABSENT), place, depth + 1)
