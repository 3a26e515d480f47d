"""Expansion of dataclasses of options into the options of a verb."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from worker.cli.options import AsJSON, expand_options


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    color: Annotated[str, typer.Option(help="Color.")] = "red"
    count: Annotated[int, typer.Option(min=1, help="Count.")] = 1


def _app(received: list[object]) -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)

    @app.command()
    @expand_options
    def paint(
        group: _Group,
        file: Annotated[str, typer.Argument(help="File.")] = "-",
        as_json: AsJSON = False,
    ) -> None:
        """Paint a file."""
        received.extend([group, file, as_json])

    return app


def test_options_of_a_dataclass_are_parsed_into_an_instance() -> None:
    received: list[object] = []
    done = CliRunner().invoke(_app(received), ["--count", "3", "x", "--json"])
    assert done.exit_code == 0, done.output
    assert received == [_Group(color="red", count=3), "x", True]


@pytest.mark.parametrize("arguments", [["--count", "0"], ["--shade", "dark"]])
def test_options_of_a_dataclass_are_validated(arguments: list[str]) -> None:
    received: list[object] = []
    assert CliRunner().invoke(_app(received), arguments).exit_code == 2
    assert received == []


def test_help_keeps_the_docstring_and_the_order_of_options() -> None:
    shown = CliRunner().invoke(_app([]), ["--help"]).output
    assert "Paint a file." in shown
    positions = [shown.index(name) for name in ("--color", "--count", "--json")]
    assert positions == sorted(positions)


def test_signature_has_one_parameter_per_option() -> None:
    def verb(group: _Group, name: str = "x") -> None:
        """Do nothing."""

    assert list(inspect.signature(expand_options(verb)).parameters) == ["color", "count", "name"]
