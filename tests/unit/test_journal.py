"""State that a journal tells the next run all that was sent, whatever ended the last one."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from tests.simulation.virtual_clock import START
from worker.dead_letters.journal import Sent, default_path, digest, opened, peek
from worker.errors import JournalError, UsageError

ARN = "arn:aws:sqs:eu-west-1:123456789012:aup-acceptances-dead"
A, B, C = (Sent(name, f"original-{name}", digest(f"body {name}")) for name in "abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.jsonl"


def _killed_run(path: Path, asked: str = "all") -> None:
    """Send two, delete one, and be killed."""
    with opened(path, ARN, asked) as journal:
        journal.begin(START, 120)
        journal.sent([A, B], START + timedelta(seconds=1))
        journal.deleted(["a"], START + timedelta(seconds=2))


def test_the_next_run_knows_what_was_sent_and_what_was_deleted_too(path: Path) -> None:
    _killed_run(path)
    with opened(path, ARN, "all") as journal:
        progress = journal.progress
        assert progress.was_sent("b", "body b")
        assert not progress.was_sent("b", "another body")  # sent again since, and dead anew
        assert not progress.was_sent("a", "body a")
        assert progress.has_done("a")
        assert progress.has_done("original-a")
        assert not progress.has_done("b")
        assert progress.runs == 1
        assert progress.hidden_until == START + timedelta(seconds=122)


def test_who_asks_for_something_else_hears_only_of_what_is_left_to_delete(path: Path) -> None:
    _killed_run(path)
    progress = peek(path, ARN, "only invalid")
    assert (progress.done, progress.runs) == ({}, 0)
    assert progress.was_sent("b", "body b")
    assert peek(path, ARN, "all").has_done("a")


def test_a_run_that_ended_by_itself_hides_nothing_and_one_that_did_all_leaves_no_file(
    path: Path,
) -> None:
    _killed_run(path)
    with opened(path, ARN, "all") as journal:
        journal.begin(START, 120)
        journal.stop(START)
    assert peek(path, ARN, "all").hidden_until is None
    with opened(path, ARN, "all") as journal:
        journal.begin(START, 120)
        journal.end(START)  # b is not known to be deleted
    assert path.exists()
    with opened(path, ARN, "all") as journal:
        journal.begin(START, 120)
        journal.deleted(["b"], START)
        journal.end(START)
    assert not path.exists()
    assert peek(path, ARN, "all").runs == 0


@pytest.mark.parametrize("torn", [1, 10, 40])
def test_a_line_that_a_crash_tore_off_is_none_and_the_next_one_is_whole(
    path: Path, torn: int
) -> None:
    _killed_run(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-torn])
    with opened(path, ARN, "all") as journal:
        assert set(journal.progress.outstanding) == {"a", "b"}
        journal.sent([C], START)
    lines = path.read_text().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["journal", "run", "sent", "sent"]
    assert set(peek(path, ARN, "all").outstanding) == {"a", "b", "c"}


def test_two_replays_do_not_share_a_journal(path: Path) -> None:
    with (
        opened(path, ARN, "all"),
        pytest.raises(JournalError, match="another replay is at work"),
        opened(path, ARN, "all"),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "arn", "problem"),
    [
        ("something else\n", ARN, "is no journal of a replay"),
        ('{"journal": "aup-worker replay"}\n', ARN, "is no journal of a replay"),
        (None, f"{ARN}-other", "belongs to the dead letters of"),
        ("+nonsense\n", ARN, "jsonl:5: no line of a journal"),
        ('+{"at": "2026-11-22T10:00:00+00:00", "sent": 7}\n', ARN, "jsonl:5: no line of a journal"),
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
    with pytest.raises(UsageError, match=problem), opened(path, arn, "all"):
        pass
    with pytest.raises(UsageError, match=problem):
        peek(path, arn, "all")
    assert path.read_text() == before


def test_it_holds_no_body_and_is_kept_apart_by_queue() -> None:
    environment = {"XDG_STATE_HOME": "/state"}
    one, other = default_path(ARN, environment), default_path(f"{ARN}x", environment)
    assert one != other
    assert one.parent == Path("/state/aup-worker")
    home = default_path(ARN, {"XDG_STATE_HOME": "relative"})
    assert home.parent == Path.home() / ".local/state/aup-worker"
