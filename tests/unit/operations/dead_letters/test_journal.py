"""State that a journal tells the next run all that was sent, whatever ended the last one."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulation.virtual_clock import START
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


def _killed_run(path: Path, asked: str = "all") -> None:
    """Send two, delete one, and be killed."""
    with open_journal(path, ARN, asked, TO) as journal:
        journal.begin(START, 120)
        journal.sent([A, B], START + timedelta(seconds=1))
        journal.deleted(["a"], START + timedelta(seconds=2))


def test_the_next_run_knows_what_was_sent_and_what_was_deleted_too(path: Path) -> None:
    _killed_run(path)
    with open_journal(path, ARN, "all", TO) as journal:
        progress = journal.progress
        assert progress.was_sent("b", "body b", "sent b")
        assert not progress.was_sent(
            "b", "another body", "sent b"
        )  # sent again since, and dead anew
        assert not progress.was_sent("a", "body a", "sent a")
        assert progress.has_done("a")
        assert progress.has_done("original-a")
        assert not progress.has_done("b")
        assert progress.runs == 1
        assert progress.hidden_until == START + timedelta(seconds=122)


def test_who_asks_for_something_else_hears_only_of_what_is_left_to_delete(path: Path) -> None:
    _killed_run(path)
    progress = read_journal(path, ARN, "only invalid", TO)
    assert (progress.done, progress.runs) == ({}, 0)
    assert progress.was_sent("b", "body b", "sent b")
    assert read_journal(path, ARN, "all", TO).has_done("a")


def test_a_run_that_ended_by_itself_hides_nothing_and_one_that_did_all_leaves_no_file(
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


@pytest.mark.parametrize("torn", [1, 10, 40])
def test_a_line_that_a_crash_tore_off_is_none_and_the_next_one_is_whole(
    path: Path, torn: int
) -> None:
    _killed_run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    with open_journal(path, ARN, "all", TO) as journal:
        assert set(journal.progress.outstanding) == {"a", "b"}
        journal.sent([C], START)
    lines = path.read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["journal", "run", "sent", "sent"]
    assert set(read_journal(path, ARN, "all", TO).outstanding) == {"a", "b", "c"}


def test_two_replays_do_not_share_a_journal(path: Path) -> None:
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
def test_what_is_no_journal_is_left_alone(
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


def test_it_holds_no_body_and_is_kept_apart_by_queue() -> None:
    environment = {"XDG_STATE_HOME": "/state"}
    one, other = default_path(ARN, environment), default_path(f"{ARN}x", environment)
    assert one != other
    assert one.parent == Path("/state/aup-worker")
    home = default_path(ARN, {"XDG_STATE_HOME": "relative"})
    assert home.parent == Path.home() / ".local/state/aup-worker"


def test_another_destination_or_another_edit_counts_as_not_sent(path: Path) -> None:
    _killed_run(path)
    assert not read_journal(path, ARN, "all", f"{TO}-scratch").was_sent("b", "body b", "sent b")
    progress = read_journal(path, ARN, "all", TO)
    assert not progress.was_sent("b", "body b", "edited b")
    assert progress.was_sent("b", "body b", "sent b")


def test_a_run_to_another_destination_does_not_report_what_was_replayed_here(path: Path) -> None:
    _killed_run(path)
    assert not read_journal(path, ARN, "all", f"{TO}-scratch").has_done("a")


def test_what_a_journal_of_version_1_lists_counts_as_not_sent(path: Path) -> None:
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


def test_the_digest_of_a_message_covers_all_but_the_marks_of_replays() -> None:
    plain = OutgoingMessage("a", {"raw": {"DataType": "Binary", "BinaryValue": b"\xff"}}, "t", "g")
    assert content_digest(mark_replayed(plain, START)) == content_digest(plain)
    others = (
        OutgoingMessage("b", plain.attributes, "t", "g"),
        OutgoingMessage("a", {}, "t", "g"),
        OutgoingMessage("a", plain.attributes, None, "g"),
        OutgoingMessage("a", plain.attributes, "t", None),
    )
    assert len({content_digest(each) for each in (plain, *others)}) == 5


@contextmanager
def _full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_a_full_disk_cuts_off_is_an_error_and_leaves_the_journal_whole(
    path: Path,
) -> None:
    _killed_run(path)
    whole = path.read_bytes()
    with open_journal(path, ARN, "all", TO) as journal:
        with _full_at(len(whole) + 20), pytest.raises(JournalError, match="File too large"):
            journal.sent([C], START)
        assert path.read_bytes() == whole
        assert set(journal.progress.outstanding) == {"b"}
        journal.stop(START)
    assert read_journal(path, ARN, "all", TO).hidden_until is None


def test_a_journal_that_cannot_be_begun_is_an_error_of_one_line(path: Path) -> None:
    with (
        _full_at(10),
        pytest.raises(JournalError, match="File too large"),
        open_journal(path, ARN, "all", TO),
    ):
        pass


def test_a_device_is_refused_as_a_journal() -> None:
    full = Path("/dev/full")
    with pytest.raises(UsageError, match="not a regular file"), open_journal(full, ARN, "all", TO):
        pass
    with pytest.raises(UsageError, match="not a regular file"):
        read_journal(full, ARN, "all", TO)
