"""Selections in the query string, which mean the same as the options of the CLI."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.cli.filters import FilterOptions
from worker.console.selection import address, read_selection
from worker.errors import UsageError

_TEXT = st.text(min_size=1, max_size=20).map(str.strip).filter(bool)
_NAMES = st.sampled_from(["reason", "user", "policy", "version", "id", "grep", "since", "limit"])


@given(pairs=st.lists(st.tuples(_NAMES | _TEXT, _TEXT | st.sampled_from(["3d", "7", "(", ""]))))
def test_written_selection_is_read_as_the_same(pairs: list[tuple[str, str]]) -> None:
    once = read_selection(pairs)
    again = read_selection(parse_qsl(once.query))
    assert (again.texts, again.ids, again.problems) == (once.texts, once.ids, {})
    assert again.query == once.query


def test_filter_is_that_of_the_same_options() -> None:
    query = "reason=invalid&reason=conflict&user=u-1&policy=p&version=2&until=2026-11-22T10:00:00Z"
    options = FilterOptions(
        reason=["invalid", "conflict"],
        user=["u-1"],
        policy=["p"],
        version=["2"],
        until="2026-11-22T10:00:00Z",
        grep="x+",
        limit=7,
    )
    selection = read_selection(parse_qsl(f"{query}&grep=x%2B&limit=7&id=m-1"))
    assert selection.parsed() == options.dead_letter_filter(["m-1"])
    assert selection.command("replay", options=["--rate", "5"]) == (
        "aup-worker replay m-1 --reason invalid --reason conflict --user u-1 --policy p "
        "--version 2 --until 2026-11-22T10:00:00Z --grep x+ --limit 7 --rate 5"
    )


@pytest.mark.parametrize(
    ("query", "described"),
    [
        ("", "all"),
        ("reason=invalid&user=a b", "--reason invalid --user 'a b'"),
        ("id=m-1", "m-1"),
        ("id=m-1&id=m-2&id=m-1", "2 chosen"),
    ],
)
def test_selection_is_described_in_the_words_of_the_cli(query: str, described: str) -> None:
    assert read_selection(parse_qsl(query)).described() == described


def test_invalid_field_is_kept_for_the_form_and_selects_nothing() -> None:
    selection = read_selection([("since", "soon"), ("reason", "invalid")])
    assert selection.text("since") == "soon"
    assert selection.query == "reason=invalid"
    with pytest.raises(UsageError, match="since soon: expected a time"):
        selection.parsed()


@pytest.mark.parametrize("limit", ["0", "-1", "1.5", "x", "1000001", "9" * 5000, "²"])
def test_limit_must_be_a_number(limit: str) -> None:
    assert "limit" in read_selection([("limit", limit)]).problems


def test_values_are_limited_in_number_and_length() -> None:
    selection = read_selection([("user", f"{number:04}" * 200) for number in range(300)])
    users = selection.texts.user or []
    assert (len(users), len(users[0])) == (200, 512)


def test_address_has_no_empty_query() -> None:
    assert address("/x", read_selection([])) == "/x"
    assert address("/x", read_selection([("user", "a&b=c")])) == "/x?user=a%26b%3Dc"
