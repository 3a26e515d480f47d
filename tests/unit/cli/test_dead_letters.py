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


def test_dry_run_is_counted_by_reason_and_verdict_and_lists_rows_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "utc_now", lambda: START)
    success, failure = Verdict(SUCCEEDS), Verdict("invalid", "user_id: missing")
    found = dry_run.DryRunReport(
        [
            (_dead_letter(1), success),
            (_dead_letter(2), failure),
            (_dead_letter(3, "conflict"), success),
            (_dead_letter(4), success),
        ]
    )
    dry_run.show_report(found, rows=False, as_json=False)
    captured = capsys.readouterr()
    assert [line.split() for line in captured.out.splitlines()] == [
        ["reason", "verdict", "count", "example"],
        ["invalid", "would", "succeed", "2"],
        ["invalid", "invalid", "1", "user_id:", "missing"],
        ["conflict", "would", "succeed", "1"],
    ]
    assert captured.err == (
        "4 selected, 3 would succeed; nothing was sent; --verbose lists each message\n"
    )
    dry_run.show_report(found, rows=True, as_json=False)
    captured = capsys.readouterr()
    lines = [line.split() for line in captured.out.splitlines()]
    assert lines[6] == ["message-1", "invalid", "would", "succeed"]
    assert lines[7] == ["message-2", "invalid", "invalid", "user_id:", "missing"]
    assert captured.err == "4 selected, 3 would succeed; nothing was sent\n"
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
def test_error_is_marked_beside_the_line_or_below_it(line: BodyLine, shown: list[str]) -> None:
    file = io.StringIO()
    show._print_line(Console(width=240, file=file), line)
    assert [each.rstrip() for each in file.getvalue().splitlines()] == shown


def _printed(letters: Sequence[DeadLetter], *, width: int, lines: int = 100) -> list[str]:
    file = io.StringIO()
    out = Console(file=file, width=width)
    table = screen.table(show._COLUMNS, [show._row(each, START) for each in letters])
    count = screen.print_rows(out, table, lines)
    assert f"message-{count}" in file.getvalue()
    assert f"message-{count + 1}" not in file.getvalue()
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_narrow_terminal_shows_the_detail_below_each_dead_letter() -> None:
    letters = [_dead_letter(1), replace(_dead_letter(2, "malformed"), user_id=None, version=None)]
    assert _printed(letters, width=80) == [
        "id         reason     expires in  age  user  policy          version  replays",
        "message-1  invalid          24 h  0 s  u-1   acceptable-use  2026-01        0",
        "  detail 1",
        "message-2  malformed        24 h  0 s        acceptable-use                 0",
        "  detail 2",
    ]


def test_no_value_is_broken_on_a_narrow_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    letter = replace(_dead_letter(1, "unknown_policy"), detail=f"policy {'x' * 60} not published")
    assert _printed([letter], width=40) == [
        "id         reason          expires in",
        "message-1  unknown_policy        24 h",
        f"  policy {'x' * 30}…",
    ]
    assert capsys.readouterr().err == (
        "not shown in 40 columns: age, user, policy, version, receives, replays; --json shows all\n"
    )


def test_as_many_dead_letters_are_shown_as_fit_but_five_on_any_screen() -> None:
    letters = [_dead_letter(number) for number in range(1, 10)]
    assert len(_printed(letters, width=80, lines=14)) == 1 + 14
    assert len(_printed(letters, width=80, lines=0)) == 1 + 2 * 5
    assert len(_printed(letters, width=200, lines=7)) == 1 + 7
