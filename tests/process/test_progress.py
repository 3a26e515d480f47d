"""Progress of scans on a terminal, on stderr only, and none of it elsewhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.process.environment import COMMAND, Environment, body, wait_until
from tests.process.terminal import on_terminal


@pytest.fixture
def export(environment: Environment, tmp_path: Path) -> str:
    """Record two acceptances of one user, and export them."""
    environment.publish("2026-02")
    bodies = [body(1, user_id="u"), body(2, user_id="u", version="2026-02")]
    environment.send(*bodies)
    with environment.service() as service:
        service.wait_for("started")
        wait_until(lambda: len(environment.recorded()) == 2, "both records")
        service.end(signal.SIGTERM)
    (tmp_path / "lines").write_text("".join(f"{each}\n" for each in bodies))
    path = str(tmp_path / "u.json")
    done = environment.run("accepted", "u", "--export", path)
    assert "wrote" in done.stderr
    return path


_SHOWN = {
    "policy list": r"reading policies .* 2/2",
    "accepted u --verify": r"reading records .* 2/\?[\s\S]*verifying .* 2/2",
    "verify {export}": r"verifying .* 2/2",
    "push {lines}": r"validating [\s\S]*sending .* 2/2",
    "dead-letters list": r"scanning .* 0/0",
    "coverage --policy aup --version 2026-01 --yes": r"scanning .* 2/2",
}


@pytest.mark.parametrize("verb", _SHOWN)
def test_progress_is_shown_on_a_terminal_and_only_there(
    environment: Environment, export: str, verb: str
) -> None:
    words = verb.format(export=export, lines=Path(export).with_name("lines")).split()
    with on_terminal([COMMAND, *words], environment.variables) as terminal:
        terminal.end()
        terminal.wait_for(_SHOWN[verb])
    with (
        Path(os.devnull).open("wb") as nothing,
        on_terminal([COMMAND, *words], environment.variables, stdout=nothing.fileno()) as terminal,
    ):
        terminal.end()
        terminal.wait_for(_SHOWN[verb])
    done = environment.run(*words)
    assert _SHOWN[verb].split()[0] not in done.stdout + done.stderr
