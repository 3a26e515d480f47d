"""Export, confirmation and layout of the verbs for dead letters."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from rich.console import Console

from tests.simulation.virtual_clock import START
from tests.unit.fakes import body, received_message, settings
from worker.cli import screen
from worker.cli.dead_letters import dry_run, export, scanning, show
from worker.domain.dead_letter import to_dead_letter
from worker.errors import AUPError
from worker.operations.dead_letters import dry_run_report
from worker.operations.dead_letters.body_view import BodyLine
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.dry_run import SUCCEEDS, Verdict
from worker.operations.dead_letters.filter import DeadLetterFilter


def _dead_letter(number: int, reason: str = "invalid", minutes: int = 0) -> DeadLetter:
    sent = to_dead_letter(received_message(number), reason, f"detail {number}", dead_at=START)
    message = received_message(
        number,
        body=sent.body,
        attributes=sent.attributes,
        sent_at=START + timedelta(minutes=minutes),
    )
    return describe(message, retention_seconds=86_400, now=START)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[DeadLetter]:
    """Dead letters that every scan of a verb returns."""
    letters: list[DeadLetter] = []

    async def state() -> SimpleNamespace:
        return SimpleNamespace(depth=len(letters))

    @asynccontextmanager
    async def opened(_: object) -> AsyncIterator[tuple[None, SimpleNamespace]]:
        yield None, SimpleNamespace(state=state)

    class FakeScan:
        unseen = 0

        def __init__(self, *_: object, **__: object) -> None:
            pass

        async def __aenter__(self) -> None:
            pass

        async def __aexit__(self, *_: object) -> None:
            pass

        async def __aiter__(self) -> AsyncIterator[DeadLetter]:
            for letter in letters:
                yield letter

    monkeypatch.setattr(scanning, "load", settings)
    monkeypatch.setattr(scanning, "open_queues", opened)
    monkeypatch.setattr(scanning, "Scan", FakeScan)
    return letters


def test_export_writes_matching_dead_letters_completely_and_returns_their_ids(
    tmp_path: Path, queue: list[DeadLetter]
) -> None:
    queue += [_dead_letter(1), _dead_letter(2, "malformed"), _dead_letter(3), _dead_letter(4)]
    file = tmp_path / "dead.jsonl"
    selected = DeadLetterFilter(reasons=["invalid"], limit=2)
    assert export._export(file, selected, overwrite=False) == (
        ["message-1", "message-3"],
        0,
    )
    assert [json.loads(line)["body"] for line in file.read_text().splitlines()] == [
        body(1),
        body(3),
    ]


@pytest.mark.parametrize("typed", ["", "2", "yes", "33"])
def test_purge_continues_only_if_the_correct_number_is_typed(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: typed)
    with pytest.raises(AUPError, match="nothing was deleted"):
        export._confirm(3, Path("dead.jsonl"))
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: " 3 ")
    export._confirm(3, Path("dead.jsonl"))


async def test_scan_ends_at_the_limit_of_the_filter(queue: list[DeadLetter]) -> None:
    queue += [_dead_letter(1), _dead_letter(2, "malformed"), _dead_letter(3), _dead_letter(4)]
    found: list[DeadLetter] = []
    selected = DeadLetterFilter(reasons=["invalid"], limit=2)
    summary = await scanning.scan_with_progress("scanning", selected, found.append)
    assert found == [queue[0], queue[2]]
    assert summary == scanning.ScanSummary(seen=3, known=4)


def test_list_keeps_what_expires_first_and_counts_all() -> None:
    found = show._Summaries(2)
    for number in range(9):
        found.add(_dead_letter(number, "invalid" if number % 2 else "conflict", 9 - number))
    assert found.counts == {"conflict": 5, "invalid": 4}
    assert [letter.message_id for letter in found.shown()] == ["message-8", "message-7"]
    assert {letter.message.body for letter in found.shown()} == {""}
    assert found.first_expiry["conflict"] == START + timedelta(days=1, minutes=1)


def test_dry_run_is_counted_by_reason_and_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run_report, "utc_now", lambda: START)
    success, failure = Verdict(SUCCEEDS), Verdict("invalid", "user_id: missing")
    found = dry_run_report.DryRunReport(
        [
            (_dead_letter(1), success),
            (_dead_letter(2), failure),
            (_dead_letter(3, "conflict"), success),
            (_dead_letter(4), success),
        ]
    )
    dry_run._print_verdicts(found)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["reason", "verdict", "count"]
    assert lines[1] == ["invalid", "would", "succeed", "2"]
    assert lines[6] == ["message-1", "invalid", "would", "succeed"]
    assert lines[7] == ["message-2", "invalid", "invalid", "user_id:", "missing"]
    report = found.report()
    assert report["verdicts"] == {SUCCEEDS: 3, "invalid": 1}
    assert report["dead_letters"][1] == {
        **_dead_letter(2).summary(START),
        "verdict": "invalid",
        "verdict_detail": "user_id: missing",
    }


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (BodyLine('  "a": 1,'), ['  "a": 1,']),
        (BodyLine('  "a": 1,', "a: wrong"), ['  "a": 1,   <-- a: wrong']),
        (BodyLine("{x", "not JSON", 1), ["{x", " ^ not JSON"]),
        (BodyLine(f"  {'x' * 230}", "a: wrong"), [f"  {'x' * 230}", "  ^ a: wrong"]),
        (
            BodyLine(f"{'y' * 300}z", "here", 300),
            [f"{'y' * 300}z", f"…{'y' * 120}z", f"{' ' * 121}^ here"],
        ),
    ],
)
def test_error_is_marked_beside_the_line_or_below_it(
    line: BodyLine, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    show._print_line(screen.stdout(), line)
    assert [each.rstrip() for each in capsys.readouterr().out.splitlines()] == shown


def _printed(letters: Sequence[DeadLetter], *, width: int, lines: int = 100) -> list[str]:
    file = io.StringIO()
    out = Console(file=file, width=width)
    records = [show._record(each, START) for each in letters]
    count = screen.print_records(out, records, show._FIRST_LINE, show._DETAILS, lines)
    assert f"message-{count}" in file.getvalue()
    assert f"message-{count + 1}" not in file.getvalue()
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_narrow_terminal_shows_details_below_each_dead_letter() -> None:
    letters = [_dead_letter(1), replace(_dead_letter(2, "malformed"), user_id=None, version=None)]
    assert _printed(letters, width=100) == [
        "id         reason     age  expires in  receives  replays",
        "message-1  invalid    0 s  24 h        1         0",
        "  u-1  acceptable-use  2026-01  detail 1",
        "message-2  malformed  0 s  24 h        1         0",
        "  -  acceptable-use  -  detail 2",
    ]


def test_no_column_is_cut_on_a_narrow_terminal() -> None:
    letter = replace(_dead_letter(1, "unknown_policy"), detail=f"policy {'x' * 60} not published")
    assert _printed([letter], width=40) == [
        "id         reason          age",
        "message-1  unknown_policy  0 s",
        "  expires in 24 h  receives 1  replays 0",
        "  u-1  acceptable-use  2026-01  policy",
        f"  {'x' * 38}",
        f"  {'x' * 22} not published",
    ]


def test_as_many_dead_letters_are_shown_as_fit_but_five_on_any_screen() -> None:
    letters = [_dead_letter(number) for number in range(1, 10)]
    assert len(_printed(letters, width=100, lines=14)) == 1 + 14
    assert len(_printed(letters, width=100, lines=0)) == 1 + 2 * 5
    assert len(_printed(letters, width=200, lines=7)) == 1 + 7
