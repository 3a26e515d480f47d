"""`run` on a terminal: one live line, short lines for events, and nothing left behind."""

from __future__ import annotations

import re

import pytest

from tests.process.environment import COMMAND, Environment, body, wait_until
from tests.process.terminal import on_terminal


@pytest.mark.parametrize("processes", ["1", "2"])
def test_run_on_a_terminal_shows_a_live_line_and_short_events(
    environment: Environment, processes: str
) -> None:
    environment.send(*(body(each) for each in range(5)), body(0), "{")
    command = [COMMAND, "run", "--processes", processes]
    with on_terminal(command, environment.variables) as terminal:
        terminal.wait_for(r"\d\d:\d\d:\d\d (process 1: )?started: queue=")
        terminal.wait_for(
            r"received 7  recorded 5  dupl\. 1  dead 1  [\d.]+/s  ready  Ctrl-C drains"
        )
        wait_until(lambda: len(environment.recorded()) == 5, "all recorded")
        terminal.press("\x03")
        terminal.wait_for(r"stopping: signal=SIGINT")
        assert terminal.end() == 0
        assert terminal.restored
    figures = r"received=7 recorded=5 duplicates=1\s+dead_lettered=1"
    assert re.search(rf"stopped: {figures}", terminal.text)
    assert "{" not in terminal.text
    assert terminal.shown.rstrip().splitlines()[-1].count("Ctrl-C") == 0


def test_no_colour_is_used_if_there_is_to_be_none(environment: Environment) -> None:
    variables = environment.variables | {"NO_COLOR": "1"}
    with on_terminal([COMMAND, "run"], variables) as terminal:
        terminal.wait_for(r"ready  Ctrl-C drains")
        terminal.press("\x03")
        assert terminal.end() == 0
    assert not re.search(r"\x1b\[\d+m", terminal.shown)
