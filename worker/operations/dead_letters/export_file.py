"""Export file of dead letters: complete JSON Lines that a person can edit."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from worker.domain.dead_letter import original
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage
from worker.domain.strict_json import DuplicateNameError, read_text
from worker.errors import UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.push import read_lines

# JSON escapes one byte of a message in at most six characters; the other members need some too.
_LINE_MAX_BYTES: Final = 8 * MESSAGE_MAX_BYTES
_TEXTS: Final = ("id", "original_id", "reason", "detail", "body")


def to_line(dead_letter: DeadLetter) -> str:
    """Return a complete dead letter as one line of JSON.

    Returns:
        ASCII text without a line ending; binary attributes are in base64.
    """
    message = dead_letter.message
    return json.dumps(
        {
            "id": dead_letter.message_id,
            "original_id": dead_letter.original_message_id,
            "reason": dead_letter.reason,
            "detail": dead_letter.detail,
            "sent_at": dead_letter.sent_at.isoformat(timespec="milliseconds"),
            "dead_at": dead_letter.dead_at.isoformat(timespec="milliseconds"),
            "receive_count": dead_letter.receive_count,
            "body": message.body,
            "attributes": {name: _to_json(value) for name, value in message.attributes.items()},
            "trace_header": message.trace_header,
            "group_id": message.group_id,
        }
    )


def from_line(text: str) -> tuple[str, OutgoingMessage]:
    """Parse a line that `to_line` wrote, edited or not.

    Returns:
        The id of the dead letter, and the complete message with the dead-letter attribute.

    Raises:
        ValueError: The line is not a dead letter; the message says what is wrong.
    """
    try:
        data = read_text(text)
    except RecursionError:
        raise ValueError("not JSON: nested too deep") from None
    except DuplicateNameError:
        raise
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - the file is wrong, not the program
    texts = {name: _text(data, name) for name in _TEXTS}
    return texts["id"], OutgoingMessage(
        body=texts["body"],
        attributes=_attributes(data.get("attributes", {})),
        trace_header=_text_or_none(data, "trace_header"),
        group_id=_text_or_none(data, "group_id"),
    )


def read_dead_letters(path: Path) -> tuple[dict[str, OutgoingMessage], list[str]]:
    """Read an export file, edited or not.

    Returns:
        The messages by the ids of their dead letters, and why lines cannot be sent.

    Raises:
        UsageError: The file cannot be read, or it is empty.
    """
    messages: dict[str, OutgoingMessage] = {}
    invalid: list[str] = []
    try:
        with path.open("rb") as stream:
            for line in read_lines(str(path), stream, _LINE_MAX_BYTES):
                problem = line.problem or _add(line.text, messages)
                if problem:
                    invalid.append(line.located(problem))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not messages and not invalid:
        raise UsageError(f"{path}: no lines, nothing to send")
    return messages, invalid


def _add(text: str, messages: dict[str, OutgoingMessage]) -> str:
    """Add the message of a line; return why it cannot be sent, empty if it can."""
    try:
        message_id, message = from_line(text)
        message.body.encode()
    except UnicodeEncodeError:
        return "body: contains a lone surrogate"
    except ValueError as error:
        return str(error)
    refused = original(message).why_refused()
    if refused:
        return refused
    if message_id in messages:
        return f"{message_id}: duplicate id"
    messages[message_id] = message
    return ""


def _text(data: Mapping[str, Any], name: str) -> str:
    if name not in data:
        raise ValueError(f"{name}: missing")
    value = data[name]
    if not isinstance(value, str):
        hint = " (JSON written as a string)" if name == "body" else ""
        raise ValueError(f"{name}: must be a string{hint}")  # noqa: TRY004 - see above
    return value


def _text_or_none(data: Mapping[str, Any], name: str) -> str | None:
    return None if data.get(name) is None else _text(data, name)


def _to_json(value: Mapping[str, Any]) -> dict[str, str]:
    if "BinaryValue" in value:
        content = base64.b64encode(value["BinaryValue"]).decode()
        return {"DataType": value["DataType"], "Base64": content}
    return {"DataType": value["DataType"], "StringValue": value.get("StringValue", "")}


def _attributes(data: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(data, dict):
        raise ValueError("attributes: must be an object")  # noqa: TRY004 - see above
    return {name: _from_json(name, value) for name, value in data.items()}


def _from_json(name: str, value: Any) -> dict[str, Any]:
    path = f"attributes.{name}"
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must be an object")  # noqa: TRY004 - see above
    content_name = "Base64" if "Base64" in value else "StringValue"
    try:
        kind, content = _text(value, "DataType"), _text(value, content_name)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from None
    if content_name == "StringValue":
        return {"DataType": kind, "StringValue": content}
    try:
        return {"DataType": kind, "BinaryValue": base64.b64decode(content, validate=True)}
    except ValueError:
        raise ValueError(f"{path}.Base64: not base64") from None
