"""Journal of a replay: what was sent and deleted, so that an interrupted run can be resumed.

The file is append-only JSON Lines: a header, then for each run `run` with its destination, any
number of `sent` and `deleted`, and `end` unless the run was killed. It contains ids, digests, and
the filters and edits that the operator typed, but no bodies.

Version 1 recorded neither the destination nor a digest of the message. What it lists as sent is
sent again: the worker records the second message as a duplicate, whereas a wrong guess would delete
the only copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from worker.domain.dead_letter import REPLAYS_ATTRIBUTE
from worker.domain.message import OutgoingMessage
from worker.errors import JournalError, UsageError

_KIND: Final = "aup-worker replay"
_VERSION: Final = 2
_VERSIONS: Final = (1, _VERSION)


class SentDeadLetter(NamedTuple):
    """A dead letter whose message was sent and confirmed.

    Attributes:
        message_id: Its id in the dead-letter queue.
        original_id: The message's id in the source queue; empty if unknown.
        sha256: SHA-256 of the body in the dead-letter queue.
        content_sha256: Digest of the message that was sent, see `content_digest`; empty if unknown.
        to: ARN of the destination queue; empty if unknown.
    """

    message_id: str
    original_id: str
    sha256: str
    content_sha256: str = ""
    to: str = ""


@dataclass(slots=True)
class Progress:
    """Progress of all runs in a journal.

    Attributes:
        outstanding: Sent, but not known to be deleted, by message id.
        done: Sent and deleted by earlier runs of the same request, by message id.
        runs: Number of earlier runs of the same request.
        to: ARN of the destination queue of this run; empty if unknown.
        texts: Request of the last run as text, see `ReplayTexts`; empty if unknown.
        hidden_until: Until when a killed run may keep dead letters hidden; None if the last run
            ended normally.
    """

    outstanding: dict[str, SentDeadLetter] = field(default_factory=dict)
    done: dict[str, SentDeadLetter] = field(default_factory=dict)
    runs: int = 0
    to: str = ""
    texts: Mapping[str, Any] = field(default_factory=dict)
    hidden_until: datetime | None = None
    _request: str = ""
    _visibility_timeout: timedelta = timedelta()

    def was_sent(self, message_id: str, body: str, content_sha256: str) -> bool:
        """Return whether a dead letter only needs to be deleted.

        Args:
            message_id: Id of the dead letter.
            body: Body of the dead letter.
            content_sha256: Digest of the message that would be sent for it.

        Returns:
            True if the same message was sent to the destination of this run before.
        """
        known = self.outstanding.get(message_id)
        return known is not None and (known.sha256, known.content_sha256, known.to) == (
            digest(body),
            content_sha256,
            self.to or None,
        )

    def apply(self, line: Mapping[str, Any]) -> None:
        """Update the progress from one line of the journal."""
        at = datetime.fromisoformat(line["at"])
        if "run" in line:
            self.set_request(str(line["run"]), str(line.get("to", "")))
            self.texts = dict(line.get("request", {}))
            self.runs += 1
            self._visibility_timeout = timedelta(seconds=float(line["look_seconds"]))
        for entry in line.get("sent", ()):
            each = SentDeadLetter(*map(str, entry))
            # Version 1 has no digest of the message.
            to = self.to if each.content_sha256 else ""
            self.outstanding[each.message_id] = each._replace(to=to)
        for message_id in line.get("deleted", ()):
            known = self.outstanding.pop(message_id, None)
            if known is not None and known.to == self.to:
                self.done[message_id] = known
        self.hidden_until = None if "end" in line else at + self._visibility_timeout

    def hidden_seconds(self, now: datetime) -> float:
        """Return how long a killed run may still keep dead letters hidden.

        The result never exceeds the visibility timeout of that run, even if the clock was set back.
        """
        if self.hidden_until is None:
            return 0.0
        return max(0.0, min(self._visibility_timeout, self.hidden_until - now).total_seconds())

    def set_request(self, request: str, to: str) -> None:
        """Clear `done` and `runs` if the request differs from the last one; keep `outstanding`."""
        if (request, to) != (self._request, self.to):
            self.done, self.runs, self._request, self.to = {}, 0, request, to


def digest(body: str) -> str:
    """Return the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def content_digest(message: OutgoingMessage) -> str:
    """Return the SHA-256 of a whole message without its replay mark, in hexadecimal."""
    attributes = [
        [name, value["DataType"], value.get("StringValue"), _hex(value.get("BinaryValue"))]
        for name, value in sorted(message.attributes.items())
        if name != REPLAYS_ATTRIBUTE
    ]
    return digest(json.dumps([message.body, attributes, message.trace_header, message.group_id]))


def _hex(content: Any) -> str | None:
    return None if content is None else bytes(content).hex()


def default_path(queue_arn: str, environment: Mapping[str, str]) -> Path:
    """Return the default path of the journal of a dead-letter queue.

    Raises:
        UsageError: The home directory of the user is unknown.

    Source: XDG Base Directory Specification 0.8.
    """
    stated = environment.get("XDG_STATE_HOME", "")
    try:
        # The specification requires relative paths to be ignored.
        state = Path(stated) if stated.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        raise UsageError("no home directory for the journal: pass --journal FILE") from None
    queue = queue_arn.rsplit(":", 1)[-1]
    name = "".join(each if each.isalnum() or each in "-_." else "-" for each in queue)
    return state / "aup-worker" / f"replay-{name}-{digest(queue_arn)[:8]}.jsonl"


def read_journal(path: Path, queue_arn: str, request: str, to: str) -> Progress:
    """Return the progress in a journal without changing the file; see `open_journal`."""
    progress = read_progress(path, queue_arn)
    progress.set_request(request, to)
    return progress


def read_progress(path: Path, queue_arn: str) -> Progress:
    """Return the progress of the last request in a journal; it has no runs without a file.

    Raises:
        UsageError: The file is not a journal, or it belongs to another queue.
    """
    try:
        _check_regular(path, path.stat().st_mode)
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UsageError(f"journal {path}: {error.strerror}") from None
    return _read(content, path, queue_arn)[0]


def is_in_use(path: Path) -> bool:
    """Return whether a replay of any process holds the lock of a journal."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@dataclass(slots=True)
class Journal:
    """A journal in a file that is locked against other replays, or only in memory.

    Attributes:
        progress: Progress of all runs, including this one.
        request: Digest of the filters and edits of this run.
        texts: The request as text, so that another program can resume it.
        file: The file, opened for appending without a buffer; None for memory.
    """

    progress: Progress = field(default_factory=Progress)
    request: str = ""
    texts: Mapping[str, Any] = field(default_factory=dict)
    file: IO[bytes] | None = None

    def begin(self, at: datetime, visibility_timeout_seconds: float) -> None:
        """Record the start of a run and the visibility timeout of its scan."""
        to, texts = self.progress.to, {"request": dict(self.texts)} if self.texts else {}
        timeout = {"look_seconds": visibility_timeout_seconds}
        self._write({"run": self.request, "to": to, **timeout, **texts}, at)

    def sent(self, dead_letters: Iterable[SentDeadLetter], at: datetime) -> None:
        """Record dead letters whose messages were sent, and sync the file to disk."""
        entries = [each[:4] for each in dead_letters]  # without the destination, see `begin`
        if entries:
            self._write({"sent": entries}, at, sync=True)

    def deleted(self, message_ids: Iterable[str], at: datetime) -> None:
        """Record dead letters that were deleted from the queue."""
        entries = list(message_ids)
        if entries:
            self._write({"deleted": entries}, at)

    def end(self, at: datetime) -> None:
        """Record the end of a run; remove the file if nothing is outstanding."""
        if self.progress.outstanding or self.file is None:
            self.stop(at)
            return
        try:
            Path(self.file.name).unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(f"journal {self.file.name}: {error.strerror}") from None

    def stop(self, at: datetime) -> None:
        """Record that a run was interrupted and no longer hides messages."""
        self._write({"end": True}, at)

    def _write(self, line: dict[str, Any], at: datetime, *, sync: bool = False) -> None:
        line["at"] = at.isoformat(timespec="milliseconds")
        if self.file is not None:
            _append(self.file, _line(line), sync=sync)
        self.progress.apply(line)


def _append(file: IO[bytes], content: bytes, *, sync: bool) -> None:
    """Append a line to an unbuffered file, completely or not at all."""
    length = os.fstat(file.fileno()).st_size
    try:
        while content:
            content = content[file.write(content) :]
        if sync:
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            file.truncate(length)
        raise JournalError(f"journal {file.name}: {error.strerror}") from None


@contextmanager
def open_journal(
    path: Path, queue_arn: str, request: str, to: str, texts: Mapping[str, Any] | None = None
) -> Iterator[Journal]:
    """Open or create a journal and lock it against other replays.

    Args:
        path: Path of the file; a missing directory is created.
        queue_arn: ARN of the dead-letter queue.
        request: Digest of the filters and edits of this run.
        to: ARN of the destination queue, or its URL if the ARN is unknown.
        texts: The request as text; None if it cannot be resumed from text.

    Raises:
        JournalError: Another replay uses the journal, or it cannot be written.
        UsageError: The file is not a journal, or it belongs to another queue.
    """
    file = _locked(path)
    with file:
        file.seek(0)
        progress, length = _read(file.read(), path, queue_arn)
        # Remove a line that a crash left incomplete; the file is opened for appending.
        file.truncate(length)
        if length == 0:
            _append(file, _header(queue_arn), sync=True)
        progress.set_request(request, to)
        yield Journal(progress, request, texts or {}, file)


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            file = open(path, "a+b", buffering=0, opener=_private)  # noqa: SIM115
            try:
                _check_regular(path, os.fstat(file.fileno()).st_mode)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, file):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # the replay that held the lock has removed the file
    except BlockingIOError:
        raise JournalError(
            f"journal {path}: in use by another replay; wait until it ends"
        ) from None
    except OSError as error:
        raise UsageError(
            f"journal {path}: {error.strerror}; pass another path with --journal FILE"
        ) from None


def _private(path: str, flags: int) -> int:
    """Open a file; a new one, which will contain filters and edits, only for its owner."""
    return os.open(path, flags, 0o600)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        current = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(current, os.fstat(file.fileno()))


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"journal {path}: not a regular file; pass another path with --journal FILE"
        )


def _header(queue_arn: str, version: int = _VERSION) -> bytes:
    return _line({"journal": _KIND, "version": version, "dead_letters": queue_arn})


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _read(content: bytes, path: Path, queue_arn: str) -> tuple[Progress, int]:
    """Return the progress of all complete lines, and their length in bytes."""
    progress = Progress()
    headers = [_header(queue_arn, version) for version in _VERSIONS]
    if any(each.startswith(content) for each in headers):
        return progress, len(content) if content in headers else 0
    lines = content.splitlines(keepends=True)
    _check_header(lines[0], headers, path)
    complete = lines if content.endswith(b"\n") else lines[:-1]
    for number, line in enumerate(complete[1:], start=2):
        try:
            progress.apply(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise UsageError(
                f"journal {path}:{number}: invalid line; correct it or delete the file"
            ) from None
    return progress, sum(map(len, complete))


def _check_header(line: bytes, expected: Sequence[bytes], path: Path) -> None:
    if line in expected:
        return
    try:
        stated = json.loads(line)
        known = stated["journal"] == _KIND and stated["version"] in _VERSIONS
        queue_arn = stated["dead_letters"]
    except (ValueError, KeyError, TypeError, RecursionError):
        known, queue_arn = False, ""
    if not known:
        raise UsageError(f"{path}: not a replay journal; pass another path with --journal FILE")
    raise UsageError(
        f"journal {path} belongs to the dead-letter queue {queue_arn}; "
        "pass another path with --journal FILE"
    )
