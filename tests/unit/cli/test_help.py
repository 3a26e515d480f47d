"""Help of every verb: examples, summaries and width."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.app import app

_ROOT: Any = typer.main.get_command(app)


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in getattr(command, "commands", {}).items():
        yield (*path, name), each
        yield from _verbs(each, (*path, name))


ALL = dict(_verbs(_ROOT))
LEAVES = [path for path, command in ALL.items() if not hasattr(command, "commands")]


def _shown(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"}, prog_name="aup-worker")
    assert done.exit_code == 0, done.output
    return done.output


def _parse(example: str) -> tuple[str, ...]:
    """Parse an example like the command line and return the path of its verb."""
    words = shlex.split(example.partition(" > ")[0])
    while re.match(r"(AUP|AWS)_\w+=", words[0]):
        del words[0]
    assert words.pop(0) == "aup-worker"
    command, path = _ROOT, []
    while hasattr(command, "commands"):
        path.append(words.pop(0))
        command = command.commands[path[-1]]
    command.make_context(" ".join(path), words)
    return tuple(path)


def test_all_verbs_are_found() -> None:
    assert {("run",), ("status",), ("dead-letters", "purge"), ("policy", "retire")} <= set(LEAVES)
    assert len(LEAVES) >= 19


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_of_each_verb_has_valid_examples_on_one_line(
    path: tuple[str, ...],
) -> None:
    examples = re.findall(r"^  Example: (.*)$", _shown(path), re.MULTILINE)
    written = re.findall(r"Example: ([^\n]*)", ALL[path].help)
    assert examples == written != [], "an example must stay on one line, to be copied"
    for example in examples:
        assert _parse(example) == path


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_summary_in_the_list_of_verbs_is_the_first_line_of_the_docstring(
    path: tuple[str, ...],
) -> None:
    group: Any = ALL.get(path[:-1], _ROOT)
    first, _, _ = ALL[path].help.partition("\n")
    listed = getattr(group.commands, "verbs", {})
    assert listed == {} or listed[path[-1]].summary == first


def test_example_with_an_unknown_option_is_detected() -> None:
    with pytest.raises(Exception, match="No such option"):
        _parse("aup-worker status --wotch")
    with pytest.raises(Exception, match="Missing"):
        _parse("AUP_QUEUE=q aup-worker policy retire --policy aup")


@pytest.mark.parametrize("path", [(), *ALL], ids=lambda path: " ".join(path) or "aup-worker")
def test_help_fits_80_columns_without_truncation(path: tuple[str, ...]) -> None:
    shown = _shown(path)
    assert max(map(len, shown.splitlines())) <= 80
    _, _, text = shown.partition("\n")  # The usage line marks repeatable arguments with "...".
    assert not re.search(r"\.\.\.$", text, re.MULTILINE), shown


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_each_option_and_argument_has_help_ending_with_a_period(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        assert (getattr(parameter, "help", None) or "").endswith("."), parameter.name
