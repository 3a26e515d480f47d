"""Connection options: before and after the verb, their precedence, and their names in errors."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from worker.cli.app import app, main
from worker.runtime import variables

_ROOT: Any = typer.main.get_command(app)
_OPTIONS = (
    "--region", "--profile", "--endpoint-url", "--queue", "--dead-letter-queue", "--env-file",
)  # fmt: skip


def _paths(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    nested = getattr(command, "commands", {})
    return [path, *(each for name in nested for each in _paths(nested[name], (*path, name)))]


def _command(path: tuple[str, ...]) -> Any:
    command = _ROOT
    for name in path:
        command = command.commands[name]
    return command


class _Verb:
    """Runner of `aup-worker` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["aup-worker", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err

    def settings(self, *arguments: str) -> dict[str, tuple[Any, str]]:
        """Return value and source of each setting."""
        code, out, err = self(*arguments, "--json")
        assert code == 0, err
        return {row["name"]: (row["value"], row["source"]) for row in json.loads(out)["settings"]}


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> _Verb:
    for name in list(os.environ):
        if name.startswith(("AUP_", "AWS_")):
            monkeypatch.delenv(name)
    return _Verb(monkeypatch, capsys)


@pytest.mark.parametrize("path", _paths(_ROOT), ids=" ".join)
def test_each_verb_and_group_takes_every_option_and_completes_it(path: tuple[str, ...]) -> None:
    command = _command(path)
    context = command.make_context(path[-1] if path else "aup-worker", [], resilient_parsing=True)
    completed = {each.value for each in command.shell_complete(context, "--")}
    assert set(_OPTIONS) <= completed
    shown = command.get_help(context)
    _, _, panel = shown.partition("Connection options, before or after the verb:")
    panel = panel.partition("\n\n")[0]
    assert [line.split()[0] for line in panel.splitlines() if line] == list(_OPTIONS)


def test_options_are_read_before_and_after_the_verb_and_the_last_one_counts(verb: _Verb) -> None:
    found = verb.settings("--queue", "a", "--region", "eu-west-1", "settings", "--queue", "b")
    assert found["AUP_QUEUE"] == ("b", "--queue")
    assert found["AWS_REGION"] == ("eu-west-1", "--region")


def test_options_replace_the_environment_in_any_case_and_it_is_restored(
    verb: _Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {"aup_queue": "env", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"}
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    found = verb.settings("settings", "--queue", "option", "--region", "eu-west-3")
    assert found["AUP_QUEUE"] == ("option", "--queue")
    assert found["AWS_REGION"] == ("eu-west-3", "--region")
    assert dict(os.environ) == before
    assert variables.label("AUP_QUEUE") == "AUP_QUEUE"


def test_endpoint_replaces_those_of_single_services(
    verb: _Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:2")
    found = verb.settings("settings", "--endpoint-url", "http://127.0.0.1:3")
    for name in ("AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB"):
        assert found[name] == ("http://127.0.0.1:3", "--endpoint-url")


def test_profile_replaces_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "x")
    with variables.replaced():
        variables.replace({"AWS_PROFILE": "p"}, {"AWS_PROFILE": "--profile"})
        assert os.environ["AWS_PROFILE"] == "p"
        assert not {"AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"} & set(os.environ)
    assert os.environ["AWS_ACCESS_KEY_ID"] == "x"


def test_token_of_the_environment_is_not_combined_with_the_key_of_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "x")
    with variables.replaced():
        variables.replace({"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}, {})
        assert "AWS_SESSION_TOKEN" not in os.environ


def test_options_replace_files_and_files_the_environment_the_last_file_first(
    verb: _Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.env", tmp_path / "second.env"
    first.write_text("AUP_QUEUE=first\nAUP_SLOTS=11\nAUP_DEAD_LETTER_QUEUE=first-dead\n")
    second.write_text("AUP_SLOTS=12\nAWS_DEFAULT_REGION=eu-west-3\n")
    monkeypatch.setenv("AUP_SLOTS", "10")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    found = verb.settings(
        "--env-file", str(first), "settings", "--env-file", str(second), "--queue", "option"
    )
    assert found["AUP_QUEUE"] == ("option", "--queue")
    assert found["AUP_DEAD_LETTER_QUEUE"] == ("first-dead", f"{first}: AUP_DEAD_LETTER_QUEUE")
    assert found["AUP_SLOTS"] == (12, f"{second}: AUP_SLOTS")
    assert found["AWS_REGION"] == ("eu-west-3", f"{second}: AWS_DEFAULT_REGION")


def test_problems_name_the_option_or_the_file(verb: _Verb, tmp_path: Path) -> None:
    file = tmp_path / "prod.env"
    file.write_text("AUP_SLOT=3\nAUP_MAX_ATTEMPTS=none\n")
    code, _, err = verb("status", "--queue", "a b", "--env-file", str(file))
    assert code == 2
    unknown, attempts, queue = sorted(err.splitlines(), key=lambda line: "--queue" in line)
    assert unknown == (f"aup-worker: {file}: unknown setting AUP_SLOT (did you mean AUP_SLOTS?)")
    assert attempts.startswith(f"aup-worker: {file}: AUP_MAX_ATTEMPTS=none: must be")
    assert queue.startswith("aup-worker: --queue=a b: must be a URL, or a name")


def test_contradictions_name_the_options(verb: _Verb) -> None:
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
    _, _, err = verb("status", "--queue", url, "--region", "us-east-1")
    assert err == f"aup-worker: --queue={url}: region eu-west-1 differs from --region (us-east-1)\n"
    _, _, err = verb("status", "--queue", "a", "--dead-letter-queue", "a")
    assert err == "aup-worker: --dead-letter-queue=a: must differ from --queue (a)\n"


@pytest.mark.parametrize("option", [each for each in _OPTIONS if each != "--env-file"])
def test_empty_option_is_not_the_default(verb: _Verb, option: str) -> None:
    assert verb("settings", option, "") == (2, "", f"aup-worker: {option}: must not be empty\n")


def test_verb_without_aws_reports_ignored_options(verb: _Verb) -> None:
    code, _, err = verb("plan", "--rate", "10/s", "--region", "eu-west-1", "--queue", "q")
    assert code == 0
    assert err.splitlines()[0] == (
        "aup-worker: plan calls no AWS account; ignored: --region, --queue"
    )
    assert "ignored" not in verb("settings", "--queue", "q")[2]


def test_health_reads_its_port_from_a_file(verb: _Verb, tmp_path: Path) -> None:
    file = tmp_path / "health.env"
    file.write_text("AUP_HEALTH_PORT=none\n")
    code, _, err = verb("health", "--env-file", str(file))
    assert (code, err) == (2, "aup-worker: AUP_HEALTH_PORT=none: expected a port from 1 to 65535\n")
