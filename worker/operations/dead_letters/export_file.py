"""Dead letters in a file: a line each, whole, and editable by a person."""

from __future__ import annotations

import base64
import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from worker.domain.dead_letter import original
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage
from worker.domain.strict_json import DuplicateNameError, read_text
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.push import BadLine, Line, lines

# JSON escapes a byte of a message in six characters at most, and what surrounds it needs some too.
_LINE_MAX_BYTES: Final = 8 * MESSAGE_MAX_BYTES
_TEXTS: Final = ("id", "original_id", "reason", "detail", "body")


@dataclass(frozen=True, slots=True)
class FiledLetter:
    """A dead letter as a file has it.

    Attributes:
        message_id: what the dead-letter queue called it.
        original_message_id: what the source queue called the message; empty if nobody said.
        message: whole, with the attribute that says why it died.
    """

    message_id: str
    original_message_id: str
    message: OutgoingMessage
    reason: str
    detail: str


def to_line(letter: DeadLetter) -> str:
    """Write a dead letter as one line of JSON, nothing left out.

    Returns:
        Plain ASCII, without a line's end; binary attributes are in base64.
    """
    given = letter.message
    return json.dumps(
        {
            "id": letter.message_id,
            "original_id": letter.original_message_id,
            "reason": letter.reason,
            "detail": letter.detail,
            "sent_at": letter.sent_at.isoformat(timespec="milliseconds"),
            "dead_at": letter.dead_at.isoformat(timespec="milliseconds"),
            "receive_count": letter.receive_count,
            "body": given.body,
            "attributes": {name: _packed(value) for name, value in given.attributes.items()},
            "trace_header": given.trace_header,
            "group_id": given.group_id,
        }
    )


def from_line(text: str) -> FiledLetter:
    """Read what `to_line` wrote, edited or not.

    Raises:
        ValueError: it is no dead letter; names what is wrong.
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
        raise ValueError("no JSON object")  # noqa: TRY004 - the file is wrong, not the program
    texts = {name: _text(data, name) for name in _TEXTS}
    message = OutgoingMessage(
        body=texts["body"],
        attributes=_attributes(data.get("attributes", {})),
        trace_header=_text_or_none(data, "trace_header"),
        group_id=_text_or_none(data, "group_id"),
    )
    return FiledLetter(texts["id"], texts["original_id"], message, texts["reason"], texts["detail"])


def read_letters(path: Path) -> tuple[dict[str, OutgoingMessage], list[BadLine]]:
    """Read a file of dead letters, edited or not.

    Returns:
        The messages by the ids of their dead letters, and the lines that cannot be sent.

    Raises:
        UsageError: the file cannot be read, or is empty.
    """
    letters: dict[str, OutgoingMessage] = {}
    bad: list[BadLine] = []
    try:
        with path.open("rb") as stream:
            for line in lines(str(path), stream, _LINE_MAX_BYTES):
                problem = line if isinstance(line, BadLine) else _take(line, letters)
                if problem is not None:
                    bad.append(problem)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not letters and not bad:
        raise UsageError(f"{path}: no lines, nothing to send")
    return letters, bad


def _take(line: Line, letters: dict[str, OutgoingMessage]) -> BadLine | None:
    try:
        letter = from_line(line.text)
        letter.message.body.encode()
    except UnicodeEncodeError:
        return BadLine(line.source, line.number, "body: holds half a character (a lone surrogate)")
    except ValueError as error:
        return BadLine(line.source, line.number, str(error))
    refused = original(letter.message).why_refused()
    if refused:
        return BadLine(line.source, line.number, refused)
    if letter.message_id in letters:
        return BadLine(line.source, line.number, f"{letter.message_id} stands there twice")
    letters[letter.message_id] = letter.message
    return None


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    """Write a file that is there whole or not at all, and for its owner only.

    It is durable when the context ends: the file and its directory are synced.

    Args:
        path: where it is when all went well.
        overwrite: whether another may be there already.

    Raises:
        UsageError: another is there, or none can be made.
        AUPError: it cannot be written to its end.
    """
    _check_free(path, overwrite=overwrite)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        _check_free(path, overwrite=overwrite)
        Path(name).replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise AUPError(f"{path}: {error.strerror}; it was not written") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """Make a rename in a directory durable, where its file system can."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def _check_free(path: Path, *, overwrite: bool) -> None:
    if path.is_dir():
        raise UsageError(f"{path}: is a directory")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: not a regular file; - writes to stdout")
    if path.exists() and not overwrite:
        raise UsageError(f"{path}: exists already; --force overwrites it")


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


def _packed(value: Mapping[str, Any]) -> dict[str, str]:
    if "BinaryValue" in value:
        content = base64.b64encode(value["BinaryValue"]).decode()
        return {"DataType": value["DataType"], "Base64": content}
    return {"DataType": value["DataType"], "StringValue": value.get("StringValue", "")}


def _attributes(packed: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(packed, dict):
        raise ValueError("attributes: must be an object")  # noqa: TRY004 - see above
    return {name: _unpacked(name, value) for name, value in packed.items()}


def _unpacked(name: str, value: Any) -> dict[str, Any]:
    place = f"attributes.{name}"
    if not isinstance(value, dict):
        raise ValueError(f"{place}: must be an object")  # noqa: TRY004 - see above
    packed = "Base64" if "Base64" in value else "StringValue"
    try:
        kind, content = _text(value, "DataType"), _text(value, packed)
    except ValueError as error:
        raise ValueError(f"{place}.{error}") from None
    if packed == "StringValue":
        return {"DataType": kind, "StringValue": content}
    try:
        return {"DataType": kind, "BinaryValue": base64.b64decode(content, validate=True)}
    except ValueError:
        raise ValueError(f"{place}.Base64: not base64") from None
