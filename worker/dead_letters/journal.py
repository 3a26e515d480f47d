"""A replay's journal: what was sent and deleted, so that the next run goes on after any end.

JSON Lines, append-only: a header, then for each run `run`, any number of `sent` and `deleted`, and
`end` unless it was killed. It holds ids and digests, and no body.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from worker.errors import JournalError, UsageError

_KIND: Final = "aup-worker replay"
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """A dead letter whose sending was confirmed.

    Attributes:
        message_id: what the dead-letter queue calls it.
        original_id: what the source queue called it; empty if nobody said.
        sha256: of its body as it is among the dead letters.
    """

    message_id: str
    original_id: str
    sha256: str


@dataclass(slots=True)
class Progress:
    """What a journal tells of the runs so far.

    Attributes:
        outstanding: sent, but not known to be deleted, by message id.
        done: sent and deleted by runs that were asked for the same, by message id.
        runs: how many of those there were.
        hidden_until: until when a run that was killed may keep dead letters hidden; None if the
            last one ended by itself.
    """

    outstanding: dict[str, Sent] = field(default_factory=dict)
    done: dict[str, Sent] = field(default_factory=dict)
    runs: int = 0
    hidden_until: datetime | None = None
    _asked: str = ""
    _look: timedelta = timedelta()

    def was_sent(self, message_id: str, body: str) -> bool:
        """Say whether a dead letter need only be deleted, because it was sent before."""
        known = self.outstanding.get(message_id)
        return known is not None and known.sha256 == digest(body)

    def has_done(self, wanted_id: str) -> bool:
        """Say whether a dead letter was replayed before, by its own id or its original's."""
        return wanted_id in self.done or any(
            wanted_id == each.original_id for each in self.done.values()
        )

    def take(self, line: Mapping[str, Any]) -> None:
        """Add what one line tells."""
        at = datetime.fromisoformat(line["at"])
        if "run" in line:
            self.asked(str(line["run"]))
            self.runs += 1
            self._look = timedelta(seconds=float(line["look_seconds"]))
        for entry in line.get("sent", ()):
            sent = Sent(*map(str, entry))
            self.outstanding[sent.message_id] = sent
        for message_id in line.get("deleted", ()):
            known = self.outstanding.pop(message_id, None)
            if known is not None:
                self.done[message_id] = known
        self.hidden_until = None if "end" in line else at + self._look

    def hidden_seconds(self, now: datetime) -> float:
        """Return how long a run that was killed may still keep dead letters hidden.

        Never longer than it hides them at all, wherever a clock has jumped to since.
        """
        if self.hidden_until is None:
            return 0.0
        return max(0.0, min(self._look, self.hidden_until - now).total_seconds())

    def asked(self, for_what: str) -> None:
        """Forget what was done when something else was asked for; what is outstanding stays."""
        if for_what != self._asked:
            self.done, self.runs, self._asked = {}, 0, for_what


def digest(body: str) -> str:
    """Give the SHA-256 of a body, in hexadecimal."""
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


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


def peek(path: Path, queue_arn: str, asked: str) -> Progress:
    """Read a journal, if there is one, and leave it alone; see `opened`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        content = b""
    except OSError as error:
        raise UsageError(f"journal {path}: {error.strerror}") from None
    progress, _ = _read(content, path, queue_arn)
    progress.asked(asked)
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
        self._write({"run": self._asked, "look_seconds": look_seconds}, at)

    def sent(self, letters: Iterable[Sent], at: datetime) -> None:
        """Note what is confirmed; it is on the disk when this returns."""
        entries = [[each.message_id, each.original_id, each.sha256] for each in letters]
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
        self._path.unlink(missing_ok=True)

    def stop(self, at: datetime) -> None:
        """Note that a run was interrupted, but hides nothing any more."""
        self._write({"end": True}, at)

    def _write(self, line: dict[str, Any], at: datetime, *, sync: bool = False) -> None:
        line["at"] = at.isoformat(timespec="milliseconds")
        try:
            self._file.write(_line(line))
            self._file.flush()
            if sync:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(f"journal {self._path}: {error.strerror}") from None
        self.progress.take(line)


@contextmanager
def opened(path: Path, queue_arn: str, asked: str) -> Iterator[Journal]:
    """Open a journal, or begin one, and keep others from it.

    Args:
        path: of the file; its folder is made if it is missing.
        queue_arn: of the dead-letter queue.
        asked: digest of what the run is asked for.

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
            file.write(_header(queue_arn))
            file.flush()
        progress.asked(asked)
        yield Journal(file, path, progress, asked)


def _locked(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            file = path.open("a+b")
            try:
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


def _header(queue_arn: str) -> bytes:
    return _line({"journal": _KIND, "version": _VERSION, "dead_letters": queue_arn})


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _read(content: bytes, path: Path, queue_arn: str) -> tuple[Progress, int]:
    """Read all whole lines; give how many bytes they take, too."""
    progress = Progress()
    header = _header(queue_arn)
    if header.startswith(content):
        return progress, 0 if content != header else len(header)
    lines = content.splitlines(keepends=True)
    _check_header(lines[0], header, path)
    whole = lines if content.endswith(b"\n") else lines[:-1]
    for number, line in enumerate(whole[1:], start=2):
        try:
            progress.take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise UsageError(
                f"journal {path}:{number}: no line of a journal: mend it or remove the file"
            ) from None
    return progress, sum(map(len, whole))


def _check_header(line: bytes, expected: bytes, path: Path) -> None:
    if line == expected:
        return
    try:
        stated = json.loads(line)
        known = stated["journal"] == _KIND and stated["version"] == _VERSION
        queue_arn = stated["dead_letters"]
    except (ValueError, KeyError, TypeError, RecursionError):
        known, queue_arn = False, ""
    if not known:
        raise UsageError(f"{path} is no journal of a replay: name another file with --journal")
    raise UsageError(
        f"journal {path} belongs to the dead letters of {queue_arn}: name another with --journal"
    )
