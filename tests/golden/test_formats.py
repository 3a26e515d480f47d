"""Formats that are stored, and that other programs read or write."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from msgspec.structs import replace
from pydantic_settings import BaseSettings

from tests.golden.golden import Golden, document, lines
from tests.simulation.virtual_clock import START
from tests.unit.fakes import TEXT, acceptance, body, received_message
from worker import __version__
from worker.domain.dead_letter import mark_replayed, origin, original, to_dead_letter
from worker.domain.evidence import build_item
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage, ReceivedMessage
from worker.domain.origin import Edit
from worker.domain.policy import PolicyText
from worker.operations.dead_letters.dead_letter import describe
from worker.operations.dead_letters.export_file import to_line
from worker.operations.dead_letters.journal import (
    SentDeadLetter,
    content_digest,
    digest,
    open_journal,
)
from worker.runtime.logs import configure
from worker.settings import AWSSettings, Settings, variable

_EDIT = Edit("2026-11-22T11:00:00.000+00:00", "operator", ("user_id", "data.version"), "e" * 64)


def _text(value: str) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": value}


def _readable(value: Any) -> Any:
    """Return values as JSON has them: bytes in hexadecimal, marked as such."""
    if isinstance(value, bytes):
        return {"binary": value.hex()}
    if isinstance(value, Mapping):
        return {name: _readable(each) for name, each in value.items()}
    return value


def _versionless(content: Any) -> str:
    return document(_readable(content)).replace(__version__, "<version>")


def test_record(golden: Golden) -> None:
    first = origin(received_message(7))
    build = partial(
        build_item,
        text=TEXT,
        origin=first,
        recorded_at=START + timedelta(milliseconds=1500),
        random_bytes=lambda count: bytes(range(count)),
    )
    items = {
        "usual": build(
            acceptance(7, referrer="newsletter", nested={"é": [1, 2.5, None]}),
        ),
        "least": build(
            acceptance(
                7,
                content_sha256=None, locale=None, method=None, channel=None,
                ip=None, user_agent=None, session_id=None,
            ),
        ),
        "reduced": build(
            acceptance(7, ip="203.0.113.0", user_agent=None),
            reductions={"ip": "truncated", "user_agent": "omitted"},
        ),
        "edited": build(
            acceptance(7),
            text=PolicyText("e" * 64, "es-ES"),
            origin=replace(first, replayed_at=START + timedelta(hours=2), edits=(_EDIT,)),
        ),
    }  # fmt: skip
    golden.check(
        "record", {f"{name}.json": document(_readable(item)) for name, item in items.items()}
    )


def _dead(
    given: ReceivedMessage, detail: str = "user_id: missing", **limit: int
) -> OutgoingMessage:
    return to_dead_letter(given, "invalid", detail, dead_at=START + timedelta(seconds=90), **limit)


def _attributes(message: OutgoingMessage) -> dict[str, Any]:
    """Return attributes; ours with their text also as parsed JSON."""
    return {
        name: {**value, "as JSON": json.loads(value["StringValue"])}
        if name.startswith("aup.")
        else value
        for name, value in message.attributes.items()
    }


def _folded() -> ReceivedMessage:
    """Return a message with the maximum of ten attributes, two smaller than the others."""
    names = {f"name-{number}": _text("x" * 100) for number in range(8)}
    small = {"tenant": _text("t"), "raw": {"DataType": "Binary", "BinaryValue": b"\0\1"}}
    return received_message(7, receive_count=3, attributes={**names, **small})


def test_dead_letter_and_replay_attributes(golden: Golden) -> None:
    first = origin(received_message(7))
    replayed = mark_replayed(original(received_message(7)), START, first, _EDIT)
    twice = mark_replayed(replayed, START + timedelta(hours=1), first)
    near_limit = {
        f"{room} bytes left": _attributes(
            _dead(received_message(7, body="x" * (MESSAGE_MAX_BYTES - room)), "a detail " * 50)
        )
        for room in (800, 300, 240, 100, 30)
    }
    golden.check(
        "dead-letter",
        {
            "usual.json": _versionless(_attributes(_dead(received_message(7, receive_count=3)))),
            "folded.json": _versionless(_attributes(_dead(_folded()))),
            "near-the-limit.json": _versionless(near_limit),
            "replayed.json": _versionless(_attributes(replayed)),
            "replayed-twice.json": _versionless(_attributes(twice)),
            "dead-again.json": _versionless(
                _attributes(_dead(received_message(7, attributes=twice.attributes)))
            ),
        },
    )


def test_line_of_a_dead_letter_file(golden: Golden) -> None:
    sent = _dead(_folded())
    dead = received_message(
        9, body=sent.body, attributes=sent.attributes, trace_header="Root=1", group_id="g"
    )
    letter = describe(dead, retention_seconds=86_400, now=START + timedelta(hours=1))
    golden.check(
        "dead-letter-file",
        {
            "line.json": _versionless(json.loads(to_line(letter))),
            "summary.json": _versionless(letter.summary(START + timedelta(hours=1))),
        },
    )


def test_journal_of_a_replay(golden: Golden, tmp_path: Path) -> None:
    path, queue, to = tmp_path / "journal.jsonl", "arn:aws:sqs:eu-west-1:1:dead", "arn:to"
    message = OutgoingMessage(body(1), {"tenant": _text("t")}, "Root=1")
    sent = SentDeadLetter("dead-1", "message-1", digest(body(1)), content_digest(message), to)
    with open_journal(path, queue, "all", to) as journal:
        journal.begin(START, 120)
        journal.sent([sent], START + timedelta(seconds=1))
        journal.deleted(["dead-1"], START + timedelta(seconds=2))
        journal.stop(START + timedelta(seconds=3))
    golden.check("journal", {"lines.jsonl": path.read_text()})


def test_log_line(golden: Golden) -> None:
    file = io.StringIO()
    with redirect_stderr(file):
        configure("info", "json")
        log = structlog.get_logger()
        log.debug("left out")
        log.info("an event", number=1, text="é", items=[1], absent=None)
        log.error("a failure", error="text", exc_info=ValueError("a problem"))
    shown = [json.loads(line) for line in file.getvalue().splitlines()]
    for line in shown:
        line["timestamp"] = "<time>" if str(line.get("timestamp")).endswith("Z") else None
        line["exception"] = "<traceback>" if "exception" in line else None
    golden.check("log-line", {"lines.json": document(shown)})


def _described(model: type[BaseSettings]) -> list[str]:
    """Describe each setting: its variable, constraints, default and documentation."""
    properties = model.model_json_schema()["properties"]
    texts = []
    for name, field in model.model_fields.items():
        if name == "aws":
            continue
        alias = field.validation_alias
        names = " or ".join(map(str, getattr(alias, "choices", []))) or variable(model, name)
        # A field with an alias has the name of its first one in the schema.
        schema = properties.get(name) or properties[names.partition(" or ")[0]]
        limits = {
            key: value
            for key, value in sorted(schema.items())
            if key not in {"title", "description", "default"}
        }
        texts += [names, f"    {field.description}", f"    default: {field.default!r}"]
        texts += [f"    {json.dumps(limits)}"]
    return texts


def test_settings(golden: Golden) -> None:
    golden.check(
        "settings", {"settings.txt": lines(_described(AWSSettings) + _described(Settings))}
    )
