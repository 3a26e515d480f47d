"""State what the verbs print, whatever others wrote into what they show."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from worker.cli import screen


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (172_799, "48 h"),
        (172_800, "2 d"),
        (-300, "-5 min"),
    ],
)
def test_a_duration_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert screen.duration(seconds) == text


def test_control_characters_are_shown_and_not_obeyed() -> None:
    shown = screen.plain("a\x1b[31mred\x07\r\x9b\n\tb").plain
    assert shown == "a\\x1b[31mred\\x07\\x0d\\x9b\n\tb"


def test_half_a_surrogate_pair_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen.plain("a\ud800b").plain == "a\\ud800b"
    screen.print_json({"a": "\udfff"})
    assert capsys.readouterr().out == '{\n  "a": "\\udfff"\n}\n'


def test_markup_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    screen.stdout().print(screen.plain("[bold]x[/bold] :smile:"))
    assert capsys.readouterr().out == "[bold]x[/bold] :smile:\n"


def test_a_note_is_one_line_on_stderr_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    screen.note("x" * 1000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "x" * 1000 + "\n"


def test_json_is_data_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"é": datetime(2026, 1, 1, tzinfo=UTC), "b": b"\x01\xff"})
    screen.print_json_line([1])
    captured = capsys.readouterr()
    document, line = captured.out.rsplit("}", 1)
    assert json.loads(document + "}") == {"é": "2026-01-01T00:00:00+00:00", "b": "01ff"}
    assert json.loads(line) == [1]
    assert captured.err == ""


def test_progress_is_silent_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with screen.progress("sending") as bar:
        task = bar.add_task("sending", total=3, rate="")
        bar.update(task, completed=2, rate="9/s")
    assert capsys.readouterr() == ("", "")
