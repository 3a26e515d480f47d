"""Malformed responses of a misbehaving server; the calls themselves took effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tests import private

if TYPE_CHECKING:
    import random

# No log may quote it; the log check of all tests detects it.
_MARKED: Final = json.dumps(private.PRIVATE)
_NO_ENTRIES: Final[tuple[Any, ...]] = (
    _MARKED,
    None,
    7,
    [],
    {},
    {"Id": 0},
    {"Id": _MARKED},
    {"Id": "99"},
)
_NO_LISTS: Final = (_MARKED, 7, {"0": _MARKED}, True)


def malformed(operation: str, response: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a response with missing, superfluous or unreadable parts.

    The parts that can be read are true: a client cannot detect false ones.
    """
    corrupted = dict(response)
    if operation.endswith("Batch") and operation.startswith(("Delete", "Change", "Send")):
        _corrupt_batch(corrupted, rng)
    elif operation == "ReceiveMessage" and corrupted.get("Messages"):
        messages = list(corrupted["Messages"])
        number = rng.randrange(len(messages))
        messages[number] = rng.choice(_MESSAGES)(messages[number])
        corrupted["Messages"] = messages
    elif operation == "BatchExecuteStatement":
        _corrupt_statements(corrupted, rng)
    elif operation == "GetItem" and "Item" in corrupted:
        corrupted["Item"] = rng.choice([_MARKED, {}, [_MARKED], {"user_id": private.SESSION_ID}])
    return corrupted


def _corrupt_batch(response: dict[str, Any], rng: random.Random) -> None:
    names = [name for name in ("Successful", "Failed") if response.get(name)]
    name = rng.choice(names)
    entries = list(response[name])
    entry = rng.choice(entries)
    match rng.randrange(6):
        case 0:
            entries.remove(entry)
        case 1:
            entries.append(entry)
        case 2:
            entries.extend(_NO_ENTRIES)
        case 3:
            entries[entries.index(entry)] = {**entry, "Id": int(entry["Id"])}
        case 4:
            other = "Failed" if name == "Successful" else "Successful"
            response[other] = [*response.get(other, []), entry]
        case _:
            response[name] = rng.choice(_NO_LISTS)
            return
    response[name] = entries


def _corrupt_statements(response: dict[str, Any], rng: random.Random) -> None:
    responses = list(response["Responses"])
    match rng.randrange(4):
        case 0:
            responses.pop()
        case 1:
            responses.append({"TableName": _MARKED})
        case 2:
            broken: tuple[Any, ...] = (
                _MARKED,
                None,
                {"Error": {}},
                {"Error": _MARKED},
                {"Error": {"Code": 7}},
            )
            responses[rng.randrange(len(responses))] = rng.choice(broken)
        case _:
            response["Responses"] = rng.choice(_NO_LISTS)
            return
    response["Responses"] = responses


_MESSAGES: Final[tuple[Callable[[Any], Any], ...]] = (
    lambda message: message["Body"],
    lambda _: None,
    lambda message: {**message, "ReceiptHandle": None},
    lambda message: {**message, "Body": {"ip": message["Body"]}},
    lambda message: {**message, "MD5OfBody": private.SESSION_ID},
    lambda message: {**message, "Attributes": {"SentTimestamp": _MARKED + message["Body"]}},
    lambda message: {**message, "Attributes": {"ApproximateReceiveCount": _MARKED}},
    lambda message: {**message, "MessageAttributes": {"a": _MARKED}},
)
