"""Modules that a start of the command imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Packages of AWS, of the service's output and of its models.
_HEAVY = {"aioboto3", "aiobotocore", "aiohttp", "asyncio", "boto3", "botocore", "rich", "structlog"}
_MODELS = {"pydantic", "pydantic_settings"}
_PROGRAM = """
import sys
from worker.__main__ import main
sys.argv[1:] = {arguments!r}
try:
    main()
except SystemExit:
    print("imported", *sys.modules)
"""


def _imported(*arguments: str, **variables: str) -> set[str]:
    program = _PROGRAM.format(arguments=list(arguments))
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program],
        env=variables, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("dead-letters", "--help")])
def test_help_imports_no_verb_and_no_library_of_verbs(arguments: tuple[str, ...]) -> None:
    imported = _imported(*arguments)
    # Typer converts options, also those before a nested verb, with pydantic.
    assert not imported & (_HEAVY | _MODELS - ({"pydantic"} if arguments != ("--help",) else set()))
    verbs = {name for name in imported if name.startswith("worker.cli.")}
    modules = ("app", "completion", "connection", "lazy")
    assert verbs == {f"worker.cli.{name}" for name in modules}


def test_health_check_imports_no_library_of_the_service() -> None:
    imported = _imported("health", AUP_HEALTH_PORT="1")
    # Typer converts options with pydantic.
    assert not imported & (_HEAVY | {"pydantic_settings", "worker.settings"})


def test_completion_of_verb_names_imports_no_verb() -> None:
    imported = _imported(
        _AUP_WORKER_COMPLETE="complete_fish",
        _TYPER_COMPLETE_ARGS="aup-worker re",
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "worker.cli.completion" in imported
    assert not {name for name in imported & _HEAVY if name != "rich"}, "typer formats with rich"
    assert "worker.cli.replay" not in imported


@pytest.mark.parametrize("verb", ["plan", "coverage"])
def test_charts_are_imported_only_to_draw_one(verb: str) -> None:
    assert "matplotlib" not in _imported(verb, "--help")
    assert "matplotlib" not in _imported("plan", "--rate", "1/s")
