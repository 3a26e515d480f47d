"""The help of every verb, as a terminal of 100 columns shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from tests.golden.golden import Golden
from worker.cli.app import app

_COLUMNS = 100


def _verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from _verbs(each, (*path, name))


def _help(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(
        app, [*path, "--help"], prog_name="aup-worker", terminal_width=_COLUMNS
    )
    assert done.exit_code == 0, done.output
    return done.output


def test_help_of_every_verb(golden: Golden) -> None:
    paths = list(_verbs(typer.main.get_command(app)))
    golden.check("help", {f"{'-'.join(('aup-worker', *path))}.txt": _help(path) for path in paths})
