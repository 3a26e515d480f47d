"""Journal of a replay: what was sent and deleted, so that the next run goes on after any end.

JSON Lines, append-only: a header, then for each run `run` with its destination, any number of
`sent` and `deleted`, and `end` unless it was killed. It holds ids and digests, and no body.

Version 1 named neither the destination nor what was sent. What it lists as sent is sent again:
the worker finds the second message recorded, whereas a wrong guess would delete the only one.
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
from typing import IO, Any, Final

from worker.domain.dead_letter import REPLAYS_ATTRIBUTE
from worker.domain.message import OutgoingMessage
from worker.errors import JournalError, UsageError

_KIND: Final = "aup-worker replay"
_VERSION: Final = 2
_VERSIONS: Final = (1, _VERSION)


@dataclass(frozen=True, slots=True)
class Sent:
    """A dead letter whose sending was confirmed.

    Attributes:
        message_id: what the dead-letter queue calls it.
        original_id: what the source queue called it; empty if nobody said.
        sha256: of its body as it is among the dead letters.
        content_sha256: of the message that was sent, see `content_digest`; empty if unknown.
        to: ARN of the queue that it was sent to; empty if unknown.
    """

    message_id: str
    original_id: str
    sha256: str
    content_sha256: str = ""
    to: str = ""


@dataclass(slots=True)
class Progress:
    """What a journal tells of the runs so far.

    Attributes:
        outstanding: sent, but not known to be deleted, by message id.
        done: sent and deleted by runs that were asked for the same, by message id.
        runs: how many of those there were.
        to: ARN of the queue that this run sends to; empty if unknown.
        hidden_until: until when a run that was killed may keep dead letters hidden; None if the
            last one ended by itself.
    """

    outstanding: dict[str, Sent] = field(default_factory=dict)
    done: dict[str, Sent] = field(default_factory=dict)
    runs: int = 0
    to: str = ""
    hidden_until: datetime | None = None
    _asked: str = ""
    _look: timedelta = timedelta()

    def was_sent(self, message_id: str, body: str, content_sha256: str) -> bool:
        """Return whether a dead letter need only be deleted.

        Args:
            message_id: of the dead letter.
            body: of the dead letter.
            content_sha256: of the message that would be sent for it.

        Returns:
            True if that very message was sent to the destination of this run before.
        """
        known = self.outstanding.get(message_id)
        return known is not None and (known.sha256, known.content_sha256, known.to) == (
            digest(body),
            content_sha256,
            self.to or None,
        )

    def has_done(self, wanted_id: str) -> bool:
        """Say whether a dead letter was replayed before, by its own id or its original's."""
        return wanted_id in self.done or any(
            wanted_id == each.original_id for each in self.done.values()
        )

    def take(self, line: Mapping[str, Any]) -> None:
        """Add what one line tells."""
        at = datetime.fromisoformat(line["at"])
        if "run" in line:
            self.asked(str(line["run"]), str(line.get("to", "")))
            self.runs += 1
            self._look = timedelta(seconds=float(line["look_seconds"]))
        for entry in line.get("sent", ()):
            message_id, original_id, sha256, *rest = map(str, entry)
            content = "".join(rest)  # version 1 has none
            self.outstanding[message_id] = Sent(
                message_id, original_id, sha256, content, self.to if content else ""
            )
        for message_id in line.get("deleted", ()):
            known = self.outstanding.pop(message_id, None)
            if known is not None and known.to == self.to:
                self.done[message_id] = known
        self.hidden_until = None if "end" in line else at + self._look

    def hidden_seconds(self, now: datetime) -> float:
        """Return how long a run that was killed may still keep dead letters hidden.

        Never longer than it hides them at all, wherever a clock has jumped to since.
        """
        if self.hidden_until is None:
            return 0.0
        return max(0.0, min(self._look, self.hidden_until - now).total_seconds())

    def asked(self, for_what: str, to: str) -> None:
        """Forget what was done when something else was asked for; what is outstanding stays."""
        if (for_what, to) != (self._asked, self.to):
            self.done, self.runs, self._asked, self.to = {}, 0, for_what, to


def digest(body: str) -> str:
    """Give the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def content_digest(message: OutgoingMessage) -> str:
    """Return the SHA-256 of a message as a whole, marks of replays left out."""
    attributes = [
        [name, value["DataType"], value.get("StringValue"), _hex(value.get("BinaryValue"))]
        for name, value in sorted(message.attributes.items())
        if name != REPLAYS_ATTRIBUTE
    ]
    return digest(json.dumps([message.body, attributes, message.trace_header, message.group_id]))


def _hex(content: Any) -> str | None:
    return None if content is None else bytes(content).hex()


def default_path(queue_arn: str, environment: Mapping[str, str]) -> Path:
    """Say where the journal of a dead-letter queue is kept, unless a user says otherwise.

    Raises:
        UsageError: nobody knows the user's home.

    Source: XDG Base Directory Specification 0.8.
    """
    stated = environment.get("XDG_STATE_HOME", "")
    try:
        # A relative one is to be ignored.
        state = Path(stated) if stated.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:
        raise UsageError("no home to keep the journal in: name one with --journal FILE") from None
    name = "".join(each if each.isalnum() or each in "-_." else "-" for each in _tail(queue_arn))
    return state / "aup-worker" / f"replay-{name}-{digest(queue_arn)[:8]}.jsonl"


def _tail(arn: str) -> str:
    return arn.rsplit(":", 1)[-1]


def peek(path: Path, queue_arn: str, asked: str, to: str) -> Progress:
    """Read a journal, if there is one, and leave it alone; see `opened`."""
    try:
        _check_regular(path, path.stat().st_mode)
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UsageError(f"journal {path}: {error.strerror}") from None
    progress, _ = _read(content, path, queue_arn)
    progress.asked(asked, to)
    return progress


class Journal:
    """An open journal that nobody else can write.

    Attributes:
        progress: what it tells, this run included.
    """

    def __init__(self, file: IO[bytes], path: Path, progress: Progress, asked: str) -> None:
        self.progress = progress
        self._asked = asked
        self._file = file
        self._path = path

    def begin(self, at: datetime, look_seconds: float) -> None:
        """Note the start of a run, and how long it hides what it looks at."""
        line = {"run": self._asked, "to": self.progress.to, "look_seconds": look_seconds}
        self._write(line, at)

    def sent(self, letters: Iterable[Sent], at: datetime) -> None:
        """Note what is confirmed; it is on the disk when this returns."""
        entries = [
            [each.message_id, each.original_id, each.sha256, each.content_sha256]
            for each in letters
        ]
        if entries:
            self._write({"sent": entries}, at, sync=True)

    def deleted(self, message_ids: Iterable[str], at: datetime) -> None:
        """Note what is no dead letter any more."""
        entries = list(message_ids)
        if entries:
            self._write({"deleted": entries}, at)

    def end(self, at: datetime) -> None:
        """Note that a run ended and hides nothing any more; remove a journal that is done with."""
        if self.progress.outstanding:
            self._write({"end": True}, at)
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(f"journal {self._path}: {error.strerror}") from None

    def stop(self, at: datetime) -> None:
        """Note that a run was interrupted, but hides nothing any more."""
        self._write({"end": True}, at)

    def _write(self, line: dict[str, Any], at: datetime, *, sync: bool = False) -> None:
        line["at"] = at.isoformat(timespec="milliseconds")
        _append(self._file, self._path, _line(line), sync=sync)
        self.progress.take(line)


def _append(file: IO[bytes], path: Path, content: bytes, *, sync: bool) -> None:
    """Write a line to the end of an unbuffered file, whole or not at all."""
    length = os.fstat(file.fileno()).st_size
    try:
        while content:
            content = content[file.write(content) :]
        if sync:
            os.fsync(file.fileno())
    except OSError as error:
        with suppress(OSError):
            file.truncate(length)
        raise JournalError(f"journal {path}: {error.strerror}") from None


@contextmanager
def opened(path: Path, queue_arn: str, asked: str, to: str) -> Iterator[Journal]:
    """Open a journal, or begin one, and keep others from it.

    Args:
        path: of the file; its folder is made if it is missing.
        queue_arn: of the dead-letter queue.
        asked: digest of what the run is asked for.
        to: ARN of the queue that the run sends to, or its URL if unknown.

    Raises:
        JournalError: another replay has it, or it cannot be written.
        UsageError: it is no journal, or that of another queue.
    """
    file = _locked(path)
    with file:
        file.seek(0)
        progress, length = _read(file.read(), path, queue_arn)
        # What a crash tore off is no line; the file is opened for appending.
        file.truncate(length)
        if length == 0:
            _append(file, path, _header(queue_arn), sync=True)
        progress.asked(asked, to)
        yield Journal(file, path, progress, asked)


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            file = path.open("a+b", buffering=0)
            try:
                _check_regular(path, os.fstat(file.fileno()).st_mode)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(path, file):
                    return file
            except BaseException:
                file.close()
                raise
            file.close()  # whoever had it has finished and removed it
    except BlockingIOError:
        raise JournalError(
            f"another replay is at work with the journal {path}: wait until it ends"
        ) from None
    except OSError as error:
        raise UsageError(
            f"journal {path}: {error.strerror}: name another with --journal FILE"
        ) from None


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file.fileno()))


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UsageError(f"journal {path}: not a regular file: name another with --journal FILE")


def _header(queue_arn: str, version: int = _VERSION) -> bytes:
    return _line({"journal": _KIND, "version": version, "dead_letters": queue_arn})


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _read(content: bytes, path: Path, queue_arn: str) -> tuple[Progress, int]:
    """Read all whole lines; give how many bytes they take, too."""
    progress = Progress()
    headers = [_header(queue_arn, version) for version in _VERSIONS]
    if any(each.startswith(content) for each in headers):
        return progress, len(content) if content in headers else 0
    lines = content.splitlines(keepends=True)
    _check_header(lines[0], headers, path)
    whole = lines if content.endswith(b"\n") else lines[:-1]
    for number, line in enumerate(whole[1:], start=2):
        try:
            progress.take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise UsageError(
                f"journal {path}:{number}: no line of a journal: mend it or remove the file"
            ) from None
    return progress, sum(map(len, whole))


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
        raise UsageError(f"{path} is no journal of a replay: name another file with --journal")
    raise UsageError(
        f"journal {path} belongs to the dead letters of {queue_arn}: name another with --journal"
    )
