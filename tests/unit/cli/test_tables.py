"""Tables fit every width from 40 to 200 columns, and no value of them is broken."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from worker.cli import screen
from worker.cli.bars import Bar
from worker.cli.tables import Column, Kind, Table

_SHA256 = "017c5fc6e8c2a7820951b60cb2b9636342d1c58e2cc2c3231216217740e5b6ef"
_COLUMNS = (
    Column("policy"),
    Column("effective", 2),
    Column("title", 3, Kind.TEXT),
    Column("retired", 4),
    Column("sha256", 1, Kind.HASH),
)
_ROW = ("acceptable-use", "2026-01-01T00:00:00Z", "The whole title of it", "", _SHA256)


def _printed(table: Table, width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, highlight=False).print(table)
    return file.getvalue().splitlines()


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, f"acceptable-use  2026-01-01T00:00:00Z  The whole title of it           {_SHA256}"),
        (80, "acceptable-use  2026-01-01T00:00:00Z  The whole title of it  017c5fc6e8c2"),
        (70, "acceptable-use  2026-01-01T00:00:00Z  The whole title o…  017c5fc6e8c2"),
        (60, "acceptable-use  2026-01-01T00:00:00Z  017c5fc6e8c2"),
        (40, "acceptable-use  017c5fc6e8c2"),
        (20, "acceptable-use"),
        (10, "acceptabl…"),
    ],
)
def test_hashes_are_shortened_texts_cut_and_columns_left_out_by_priority(
    width: int, line: str
) -> None:
    assert _printed(screen.table(_COLUMNS, [_ROW]), width)[1] == line


def test_columns_left_out_are_named_unless_they_are_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = screen.table(_COLUMNS, [_ROW])
    assert screen.print_rows(Console(file=io.StringIO(), width=40), table) == 1
    assert capsys.readouterr().err == (
        "not shown in 40 columns: effective, title; --json shows all\n"
    )
    assert screen.print_rows(Console(file=io.StringIO(), width=200), table) == 1
    assert capsys.readouterr().err == ""


def test_nothing_is_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("p" * 5000, "e" * 300, "t " * 400 + ".", "retired", _SHA256)
    screen.print_rows(screen.stdout(), screen.table(_COLUMNS, [row]))
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1] == "  ".join(row)
    assert captured.err == ""


def test_prose_is_broken_between_words() -> None:
    columns = ("status", Column("", kind=Kind.PROSE))
    table = screen.table(columns, [("fail", "set AUP_QUEUE to the name or the URL of a queue")])
    lines = ["status", "fail    set AUP_QUEUE to the name or the", "        URL of a queue"]
    assert _printed(table, 40) == lines


def test_prose_is_below_the_row_if_its_column_is_narrow_or_a_word_does_not_fit() -> None:
    columns = ("status", Column("", kind=Kind.PROSE))
    rows = [("fail", "set AUP_QUEUE to the name or the URL"), ("pass", f"{'x' * 36} is there")]
    below = ["fail", "  set AUP_QUEUE to the name or the", "  URL"]
    assert _printed(screen.table(columns, rows[:1]), 36) == ["status", *below]
    assert _printed(screen.table(columns, rows), 42)[1:] == [
        "fail    set AUP_QUEUE to the name or the",
        "        URL",
        "pass",
        f"  {'x' * 36} is",
        "  there",
    ]


def test_chart_takes_what_the_values_leave() -> None:
    table = screen.table(("day", Column("users", right=True), ""), [("d1", "7", Bar(1, 1))])
    assert _printed(table, 200)[1] == f"d1       7  {'█' * 40}"
    assert _printed(table, 30)[1] == f"d1       7  {'█' * 18}"


def test_headings_do_not_widen_the_columns() -> None:
    table = screen.table(("", ""))
    table.add_heading(Text("a heading that is long"))
    table.add_row(Text("pass"), Text("queue"))
    assert _printed(table, 80) == ["a heading that is long", "pass  queue"]


# Wide, combining, joined and right-to-left characters, and some that would move the cursor.
_VALUES = st.text(
    st.sampled_from("ab0 -:/\t\n\x1b日本語한가é\u0301\u0308\u200d\ufe0f👩🏽🚀אבع\u202e"),
    max_size=90,
)
_TABLE_COLUMNS = st.lists(
    st.builds(
        Column,
        st.sampled_from(["id", "reason", "expires in", "日本", ""]),
        st.integers(0, 4),
        st.sampled_from(list(Kind)),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@st.composite
def _tables(draw: st.DrawFn) -> tuple[Sequence[Column], list[list[str]]]:
    columns = draw(_TABLE_COLUMNS)
    row = st.lists(_VALUES, min_size=len(columns), max_size=len(columns))
    return columns, draw(st.lists(row, max_size=4))


@given(drawn=_tables(), width=st.integers(40, 200))
@settings(max_examples=300, deadline=None)
def test_every_line_fits_and_every_row_is_one_line(
    drawn: tuple[Sequence[Column], list[list[str]]], width: int
) -> None:
    columns, rows = drawn
    table = screen.table(columns, rows)
    out = Console(width=width, file=io.StringIO())
    for printed in table.lines(out, out.options):
        assert all(cell_len(each.plain) <= width for each in printed)
        assert not any("\n" in each.plain for each in printed)
        if not any(each.kind in {Kind.PROSE, Kind.BELOW} for each in columns):
            assert len(printed) == 1
    always = {each.name for each in columns if not each.priority}
    optional = {each.name for each in columns if each.priority}
    assert not (always - optional) & set(table.hidden(width))


@given(
    ids=st.lists(st.uuids().map(str) | st.text("0123456789ab", min_size=1), min_size=1, max_size=3),
    times=st.lists(st.just("2026-01-01T00:00:00Z"), min_size=3, max_size=3),
    titles=st.lists(st.text("ab 日\u0301", max_size=80), min_size=3, max_size=3),
    width=st.integers(40, 200),
)
@example(["5fea7756-0ea4-451a-a703-a558b933e274"], ["2026-01-01T00:00:00Z"] * 3, [""] * 3, 50)
def test_ids_and_times_are_complete_or_left_out(
    ids: list[str], times: list[str], titles: list[str], width: int
) -> None:
    columns = (Column("id"), Column("time", 1), Column("title", 2, Kind.TEXT))
    printed = _printed(screen.table(columns, zip(ids, times, titles, strict=False)), width)
    has_times = printed[0].split()[1:2] == ["time"]
    for line, each in zip(printed[1:], ids, strict=True):
        assert line.startswith(each)
        assert (times[0] in line) is has_times
    assert has_times or width < max(map(len, ids)) + 2 + len(times[0])
