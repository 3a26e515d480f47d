"""State what the verbs for dead letters keep, ask and draw, without a queue."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from rich.console import Console

from tests.simulation.virtual_clock import START
from tests.unit.fakes import body, received_message
from worker.cli import screen
from worker.cli.dead_letters import dry_run as rehearsal
from worker.cli.dead_letters import listing, purge, show
from worker.cli.dead_letters import scanning as look
from worker.domain.dead_letter import to_dead_letter
from worker.errors import AUPError
from worker.operations.dead_letters.body_view import BodyLine
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.dry_run import SUCCEEDS, Verdict
from worker.operations.dead_letters.filter import DeadLetterFilter


def _letter(number: int, reason: str = "invalid", minutes: int = 0) -> DeadLetter:
    letter = to_dead_letter(received_message(number), reason, f"detail {number}", dead_at=START)
    dead = received_message(
        number,
        body=letter.body,
        attributes=letter.attributes,
        sent_at=START + timedelta(minutes=minutes),
    )
    return describe(dead, retention_seconds=86_400, now=START)


def _seeing(*letters: DeadLetter) -> Callable[..., object]:
    async def look_through(_: str, take: Callable[[DeadLetter], bool]) -> look.Sight:
        for count, letter in enumerate(letters, start=1):
            if not take(letter):
                return look.Sight(count, len(letters))
        return look.Sight(len(letters), len(letters))

    return look_through


def test_what_is_chosen_is_in_the_file_whole_and_its_ids_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = [_letter(1), _letter(2, "malformed"), _letter(3), _letter(4)]
    monkeypatch.setattr(look, "look", _seeing(*letters))
    file = tmp_path / "dead.jsonl"
    chosen = DeadLetterFilter(reasons=["invalid"], limit=2)
    assert look.file_letters(file, chosen, overwrite=False) == (["message-1", "message-3"], 0)
    assert [json.loads(line)["body"] for line in file.read_text().splitlines()] == [
        body(1),
        body(3),
    ]


@pytest.mark.parametrize("answer", ["", "2", "yes", "33"])
def test_a_purge_goes_on_for_the_right_number_alone(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: answer)
    with pytest.raises(AUPError, match="nothing was deleted"):
        purge._ask(3, Path("dead.jsonl"))
    monkeypatch.setattr(typer, "prompt", lambda *_, **__: " 3 ")
    purge._ask(3, Path("dead.jsonl"))


def test_a_list_keeps_what_expires_first_and_counts_all() -> None:
    found = listing._Summaries(DeadLetterFilter(), 2)
    for number in range(9):
        assert found.take(_letter(number, "invalid" if number % 2 else "conflict", 9 - number))
    assert found.counts == {"conflict": 5, "invalid": 4}
    assert [letter.message_id for letter in found.shown()] == ["message-8", "message-7"]
    assert {letter.message.body for letter in found.shown()} == {""}
    assert found.first_expiry["conflict"] == START + timedelta(days=1, minutes=1)


def test_a_dry_run_is_counted_by_what_it_died_of_and_what_becomes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = Verdict(SUCCEEDS), Verdict("invalid", "user_id: missing")
    found = rehearsal.DryRunReport(
        [(_letter(1), good), (_letter(2), bad), (_letter(3, "conflict"), good), (_letter(4), good)]
    )
    rehearsal.print_rehearsal(found)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["died", "of", "now", "count"]
    assert lines[1] == ["invalid", "would", "succeed", "2"]
    assert lines[6] == ["message-1", "invalid", "would", "succeed"]
    assert lines[7] == ["message-2", "invalid", "invalid", "user_id:", "missing"]
    report = found.report([{"id": letter.message_id} for letter, _ in found.letters])
    assert report["verdicts"] == {SUCCEEDS: 3, "invalid": 1}
    assert report["dead_letters"][1] == {
        "id": "message-2",
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
def test_what_is_wrong_is_marked_beside_the_line_or_beneath(
    line: BodyLine, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    show._print_line(screen.stdout(), line)
    assert [each.rstrip() for each in capsys.readouterr().out.splitlines()] == shown


def test_on_a_narrow_screen_each_letter_has_two_lines_and_the_counts_stay_in_sight() -> None:
    file = io.StringIO()
    out = Console(file=file, width=100, height=24)
    letters = [_letter(1), replace(_letter(2, "malformed"), user_id=None, version=None)]
    listing._print_letters(out, letters, START)
    assert [line.rstrip() for line in file.getvalue().splitlines()] == [
        "id         reason     age  expires in  receives  replays",
        "message-1  invalid    0 s  24 h        1         0",
        "  u-1  acceptable-use  2026-01  detail 1",
        "message-2  malformed  0 s  24 h        1         0",
        "  -  acceptable-use  -  detail 2",
    ]
    # Two headings, five reasons, the sum, a blank line, the letters, a note and the prompt.
    assert 2 + 5 + 1 + 1 + 2 * listing._room(out, reasons=5) + 2 <= 24
    assert listing._room(Console(file=file, width=100, height=5), reasons=5) == 5
