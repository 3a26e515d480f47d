"""A journal records everything that was sent, however the last run ended."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN
from worker.domain.dead_letter import mark_replayed
from worker.domain.message import OutgoingMessage
from worker.errors import JournalError, UsageError
from worker.operations.dead_letters.journal import (
    SentDeadLetter,
    content_digest,
    default_path,
    digest,
    open_journal,
    read_journal,
)

ARN = "arn:aws:sqs:eu-west-1:123456789012:aup-acceptances-dead"
TO = "https://sqs.test/source"
A, B, C = (
    SentDeadLetter(name, f"original-{name}", digest(f"body {name}"), f"sent {name}", TO)
    for name in "abc"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.jsonl"


def _killed_run(path: Path, request: str = "all") -> None:
    """Record a run that sent two messages, deleted one dead letter and was killed."""
    with open_journal(path, ARN, request, TO) as journal:
        journal.begin(START, 120)
        journal.sent([A, B], START + timedelta(seconds=1))
        journal.deleted(["a"], START + timedelta(seconds=2))


def test_next_run_knows_what_was_sent_and_what_was_deleted(path: Path) -> None:
    _killed_run(path)
    with open_journal(path, ARN, "all", TO) as journal:
        progress = journal.progress
        assert progress.was_sent("b", "body b", "sent b")
        # Dead-lettered again with another body since it was sent.
        assert not progress.was_sent("b", "another body", "sent b")
        assert not progress.was_sent("a", "body a", "sent a")
        assert set(progress.done) == {"a"}
        assert progress.runs == 1
        assert progress.hidden_until == START + timedelta(seconds=122)


def test_different_request_keeps_only_what_is_outstanding(path: Path) -> None:
    _killed_run(path)
    progress = read_journal(path, ARN, "only invalid", TO)
    assert (progress.done, progress.runs) == ({}, 0)
    assert progress.was_sent("b", "body b", "sent b")
    assert set(read_journal(path, ARN, "all", TO).done) == {"a"}


def test_finished_run_hides_nothing_and_a_complete_one_removes_the_file(
    path: Path,
) -> None:
    _killed_run(path)
    with open_journal(path, ARN, "all", TO) as journal:
        journal.begin(START, 120)
        journal.stop(START)
    assert read_journal(path, ARN, "all", TO).hidden_until is None
    with open_journal(path, ARN, "all", TO) as journal:
        journal.begin(START, 120)
        journal.end(START)  # b is not known to be deleted
    assert path.exists()
    with open_journal(path, ARN, "all", TO) as journal:
        journal.begin(START, 120)
        journal.deleted(["b"], START)
        journal.end(START)
    assert not path.exists()
    assert read_journal(path, ARN, "all", TO).runs == 0


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_incomplete_last_line_is_removed_before_the_next_one_is_written(
    path: Path, cut: int
) -> None:
    _killed_run(path)
    complete = path.read_bytes()
    path.write_bytes(complete[:-cut])
    with open_journal(path, ARN, "all", TO) as journal:
        assert set(journal.progress.outstanding) == {"a", "b"}
        journal.sent([C], START)
    lines = path.read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["journal", "run", "sent", "sent"]
    assert set(read_journal(path, ARN, "all", TO).outstanding) == {"a", "b", "c"}


def test_journal_in_use_by_another_replay_is_rejected(path: Path) -> None:
    with (
        open_journal(path, ARN, "all", TO),
        pytest.raises(JournalError, match="in use by another replay"),
        open_journal(path, ARN, "all", TO),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "arn", "problem"),
    [
        ("something else\n", ARN, "not a replay journal"),
        ('{"journal": "aup-worker replay"}\n', ARN, "not a replay journal"),
        (None, f"{ARN}-other", "belongs to the dead-letter queue"),
        ("+nonsense\n", ARN, "jsonl:5: invalid line"),
        ('+{"at": "2026-11-22T10:00:00+00:00", "sent": 7}\n', ARN, "jsonl:5: invalid line"),
    ],
)
def test_file_that_is_not_a_journal_is_rejected_and_unchanged(
    path: Path, content: str | None, arn: str, problem: str
) -> None:
    _killed_run(path)
    before = path.read_text()
    if content is not None:
        before = before + content[1:] if content.startswith("+") else content
        path.write_text(before)
    with pytest.raises(UsageError, match=problem), open_journal(path, arn, "all", TO):
        pass
    with pytest.raises(UsageError, match=problem):
        read_journal(path, arn, "all", TO)
    assert path.read_text() == before


def test_default_path_differs_by_queue_and_follows_xdg() -> None:
    environment = {"XDG_STATE_HOME": "/state"}
    one, other = default_path(ARN, environment), default_path(f"{ARN}x", environment)
    assert one != other
    assert one.parent == Path("/state/aup-worker")
    home = default_path(ARN, {"XDG_STATE_HOME": "relative"})
    assert home.parent == Path.home() / ".local/state/aup-worker"


def test_message_sent_elsewhere_or_with_another_edit_counts_as_not_sent(path: Path) -> None:
    _killed_run(path)
    assert not read_journal(path, ARN, "all", f"{TO}-scratch").was_sent("b", "body b", "sent b")
    progress = read_journal(path, ARN, "all", TO)
    assert not progress.was_sent("b", "body b", "edited b")
    assert progress.was_sent("b", "body b", "sent b")


def test_run_to_another_destination_does_not_count_earlier_replays(path: Path) -> None:
    _killed_run(path)
    assert read_journal(path, ARN, "all", f"{TO}-scratch").done == {}


def test_entries_of_a_version_1_journal_count_as_not_sent(path: Path) -> None:
    lines = [
        {"journal": "aup-worker replay", "version": 1, "dead_letters": ARN},
        {"run": "all", "look_seconds": 120, "at": START.isoformat()},
        {"sent": [["b", "original-b", digest("body b")]], "at": START.isoformat()},
    ]
    path.parent.mkdir()
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    path.write_text(text)
    for to in (TO, ""):
        progress = read_journal(path, ARN, "all", to)
        assert set(progress.outstanding) == {"b"}
        assert not progress.was_sent("b", "body b", "")
    with open_journal(path, ARN, "all", TO) as journal:
        journal.begin(START, 120)
        journal.sent([C], START)
    assert read_journal(path, ARN, "all", TO).was_sent("c", "body c", "sent c")


def test_content_digest_covers_everything_but_the_replay_mark() -> None:
    plain = OutgoingMessage("a", {"raw": {"DataType": "Binary", "BinaryValue": b"\xff"}}, "t", "g")
    assert content_digest(mark_replayed(plain, START, ORIGIN)) == content_digest(plain)
    others = (
        OutgoingMessage("b", plain.attributes, "t", "g"),
        OutgoingMessage("a", {}, "t", "g"),
        OutgoingMessage("a", plain.attributes, None, "g"),
        OutgoingMessage("a", plain.attributes, "t", None),
    )
    assert len({content_digest(each) for each in (plain, *others)}) == 5


@contextmanager
def _file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_raises_and_leaves_the_journal_intact(
    path: Path,
) -> None:
    _killed_run(path)
    complete = path.read_bytes()
    with open_journal(path, ARN, "all", TO) as journal:
        with (
            _file_size_limit(len(complete) + 20),
            pytest.raises(JournalError, match="File too large"),
        ):
            journal.sent([C], START)
        assert path.read_bytes() == complete
        assert set(journal.progress.outstanding) == {"b"}
        journal.stop(START)
    assert read_journal(path, ARN, "all", TO).hidden_until is None


def test_full_disk_raises_when_the_journal_is_created(path: Path) -> None:
    with (
        _file_size_limit(10),
        pytest.raises(JournalError, match="File too large"),
        open_journal(path, ARN, "all", TO),
    ):
        pass


def test_special_file_is_rejected_as_a_journal(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="not a regular file"), open_journal(pipe, ARN, "all", TO):
        pass
    with pytest.raises(UsageError, match="not a regular file"):
        read_journal(pipe, ARN, "all", TO)
    assert pipe.is_fifo()
