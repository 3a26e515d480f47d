"""Output of the verbs, with untrusted text escaped."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import pytest

from worker.cli import screen
from worker.runtime.quantities import duration


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
def test_duration_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_control_characters_are_escaped() -> None:
    shown = screen.plain("a\x1b[31mred\x07\r\x9b\n\tb").plain
    assert shown == "a\\x1b[31mred\\x07\\x0d\\x9b\\n\tb"


@pytest.mark.parametrize("character", "\u061c\u200e\u200f\u2028\u2029\u202a\u202e\u2066\u2069")
def test_characters_that_reorder_or_break_a_line_are_escaped(
    character: str, capsys: pytest.CaptureFixture[str]
) -> None:
    escaped = f"a\\u{ord(character):04x}b"
    assert screen.plain(f"a{character}b").plain == escaped
    screen.note(f"a{character}b")
    screen.print_json_line([f"a{character}b"])
    captured = capsys.readouterr()
    assert captured.err == f"{escaped}\n"
    assert captured.out == f'["{escaped}"]\n'


def test_json_escapes_c1_controls_without_changing_the_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "".join(map(chr, range(0x20, 0x250)))
    screen.print_json({"a": text})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": text}
    assert not any("\x7f" <= each <= "\x9f" for each in printed)


def test_lone_surrogate_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert screen.plain("a\ud800b").plain == "a\\ud800b"
    screen.print_json({"a": "\udfff"})
    assert capsys.readouterr().out == '{\n  "a": "\\udfff"\n}\n'


def test_markup_is_not_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    screen.stdout().print(screen.plain("[bold]x[/bold] :smile:"))
    assert capsys.readouterr().out == "[bold]x[/bold] :smile:\n"


def test_long_note_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    screen.note("x" * 1000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "x" * 1000 + "\n"


def test_note_on_a_terminal_is_broken_between_words_and_urls_stay_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    url = "http://127.0.0.1:5000/queue"
    screen.note(f"set AUP_QUEUE to {url} or a name")
    assert capsys.readouterr().err.splitlines() == ["set AUP_QUEUE to", url, "or a name"]


def test_json_is_written_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    screen.print_json({"é": datetime(2026, 1, 1, tzinfo=UTC), "b": b"\x01\xff"})
    screen.print_json_line([1])
    captured = capsys.readouterr()
    document, line = captured.out.rsplit("}", 1)
    assert json.loads(document + "}") == {"é": "2026-01-01T00:00:00+00:00", "b": "01ff"}
    assert json.loads(line) == [1]
    assert captured.err == ""


def test_paragraph_is_broken_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen.print_paragraph("one two three four five \x1b[31m")
    assert capsys.readouterr().err.splitlines() == ["one two three four ", "five \\x1b[31m"]


def test_progress_is_hidden_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with screen.progress("sending") as bar:
        task = bar.add_task("sending", total=3, rate="")
        bar.update(task, completed=2, rate="9/s")
    assert capsys.readouterr() == ("", "")
