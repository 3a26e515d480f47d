"""Commands to try on the environment that the demonstration leaves running."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.demo.messages import POLICY, PUBLISHED, TEXTS, TITLE, UNPUBLISHED
from worker.settings import load


@dataclass(frozen=True, slots=True)
class Walkthrough:
    """An environment for other terminals, and the commands to try in it.

    Attributes:
        environment: Variables to export.
        commands: Command lines in the order in which to run them.
    """

    environment: Mapping[str, str]
    commands: list[str]

    def export_lines(self) -> list[str]:
        """Return the shell commands that set the environment."""
        return [f"export {name}={shlex.quote(text)}" for name, text in self.environment.items()]

    def report(self) -> dict[str, Any]:
        """Return the JSON report."""
        return {"environment": dict(self.environment), "commands": self.commands}


def prepare(directory: Path, settings_of_aws: Mapping[str, str]) -> Walkthrough:
    """Write the policy texts to a directory and return the walkthrough.

    Args:
        directory: Existing directory for policy texts, exports and replay journals.
        settings_of_aws: Variables with which the verbs reach the embedded AWS.
    """
    for version, text in TEXTS.items():
        _text_file(directory, version).write_text(text, "utf-8")
    settings = load()
    environment = {
        **settings_of_aws,
        "AUP_QUEUE": settings.queue,
        "AUP_DEAD_LETTER_QUEUE": settings.dead_letter_queue,
        "AUP_TABLE_NAME": settings.aws.table_name,
        "AUP_USER_TABLE_NAME": settings.aws.user_table_name,
        # Journals of replays must not outlive the queues.
        "XDG_STATE_HOME": str(directory / "state"),
    }
    text_file = shlex.quote(str(_text_file(directory, UNPUBLISHED)))
    version = f"--policy {POLICY} --version {UNPUBLISHED} --title '{TITLE}'"
    evidence, export = (shlex.quote(str(directory / f"u-42.{kind}")) for kind in ("html", "json"))
    return Walkthrough(
        environment,
        [
            "aup-worker status",
            "aup-worker dead-letters list",
            "aup-worker replay --reason unknown_policy --dry-run",
            f"aup-worker policy publish {version} --file {text_file}",
            "aup-worker replay --reason unknown_policy --dry-run",
            "aup-worker replay --reason unknown_policy",
            "aup-worker run",
            "aup-worker status",
            f"aup-worker policy diff {POLICY} {PUBLISHED} {UNPUBLISHED}",
            f"aup-worker accepted u-42 --verify --export {evidence}",
            f"aup-worker accepted u-42 --export {export}",
            f"aup-worker verify {export}",
            "aup-worker doctor",
        ],
    )


def _text_file(directory: Path, version: str) -> Path:
    return directory / f"{POLICY}-{version}.txt"
