"""Spoil responses as a server does that does not behave; the work itself was done."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tests import private

if TYPE_CHECKING:
    import random

# What no log may quote; the watch over the logs of tests finds it there.
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


def malformed(operation: str, answer: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a response that says nothing, or too much, or what cannot be read.

    Whatever it says that can be read is true: about that, a server that lies is believed.
    """
    spoiled = dict(answer)
    if operation.endswith("Batch") and operation.startswith(("Delete", "Change", "Send")):
        _spoil_batch(spoiled, rng)
    elif operation == "ReceiveMessage" and spoiled.get("Messages"):
        messages = list(spoiled["Messages"])
        number = rng.randrange(len(messages))
        messages[number] = rng.choice(_MESSAGES)(messages[number])
        spoiled["Messages"] = messages
    elif operation == "BatchExecuteStatement":
        _spoil_statements(spoiled, rng)
    elif operation == "GetItem" and "Item" in spoiled:
        spoiled["Item"] = rng.choice([_MARKED, {}, [_MARKED], {"user_id": private.SESSION_ID}])
    return spoiled


def _spoil_batch(answer: dict[str, Any], rng: random.Random) -> None:
    names = [name for name in ("Successful", "Failed") if answer.get(name)]
    name = rng.choice(names)
    entries = list(answer[name])
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
            answer[other] = [*answer.get(other, []), entry]
        case _:
            answer[name] = rng.choice(_NO_LISTS)
            return
    answer[name] = entries


def _spoil_statements(answer: dict[str, Any], rng: random.Random) -> None:
    responses = list(answer["Responses"])
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
            answer["Responses"] = rng.choice(_NO_LISTS)
            return
    answer["Responses"] = responses


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
