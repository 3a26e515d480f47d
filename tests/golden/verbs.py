"""Verbs of the command line, run in this process."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass

import pytest
import typer

from worker.cli.app import main

# Building the command tree takes longer than most verbs.
_get_command = functools.cache(typer.main.get_command)


@dataclass(frozen=True, slots=True)
class Run:
    """A verb that has ended.

    Attributes:
        code: Exit code.
        stdout: Data.
        stderr: Everything else.
    """

    code: int
    stdout: str
    stderr: str

    def shown(self) -> list[str]:
        """Return the exit code, what was printed on stderr, and then what was on stdout."""
        data = [f"stdout: {line}".rstrip() for line in self.stdout.splitlines()]
        return [f"exit code {self.code}", *self.stderr.splitlines(), *data]


class Verbs:
    """A runner of verbs that behaves like the installed command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Run:
        """Run a verb with its options to its end."""
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["aup-worker", *arguments])
            patch.setattr(typer.main, "get_command", _get_command)
            code = 0
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        printed = self._capsys.readouterr()
        return Run(code, printed.out, printed.err)
