"""Tables on terminals of 80 and 120 columns: no id, hash or time is broken."""

from __future__ import annotations

import hashlib
import re

import pytest
from rich.cells import cell_len

from tests.process.environment import COMMAND, Environment, body
from tests.process.terminal import on_terminal

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
_TEXT_SHA256 = hashlib.sha256(b"Be kind.").hexdigest()
_TITLE = "A title that is long enough for the table to be wider than a terminal of 120 columns"
_PUBLISH = ("policy", "publish", "--policy", "aup", "--version", "2026-07", "--title", _TITLE)


def _lines(environment: Environment, columns: int, *arguments: str) -> list[str]:
    """Run a verb on a terminal and return its lines, none of which is wider than the terminal."""
    command = [COMMAND, *arguments]
    with on_terminal(command, environment.variables, columns=columns) as terminal:
        assert terminal.end() == 0, terminal.text
        text = terminal.text.replace("\r\n", "\n")
    lines = [line.rpartition("\r")[2] for line in text.splitlines()]
    assert max(map(cell_len, lines)) <= columns, lines
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize("columns", [80, 120])
def test_values_are_complete_on_every_screen(environment: Environment, columns: int) -> None:
    published = _lines(environment, columns, *_PUBLISH, "--sha256", _TEXT_SHA256)
    row = rf"aup +2026-07 +published +{_TIME}( .*)? {_TEXT_SHA256[:12]}"
    assert re.fullmatch(row, published[1]), published
    listed = _lines(environment, columns, "policy", "list")
    assert sum(bool(re.search(_TIME, line)) for line in listed) == 2, listed
    environment.send(body(1), to="AUP_DEAD_LETTER_QUEUE")
    letters = _lines(environment, columns, "dead-letters", "list")
    assert any(re.match(rf"{_UUID}  \S", line) for line in letters), letters
    table = environment.dynamodb.Table(environment.variables["AUP_USER_TABLE_NAME"])
    item = {"policy_id": "aup", "version": "2026-01", "accepted_at": "2026-01-15T10:00:00.000Z"}
    table.put_item(
        Item={
            "user_id": "u-1",
            "policy_version": "aup#2026-01",
            **item,
            "recorded_at": "2026-01-15T10:00:01.000Z",
            "content_sha256": _TEXT_SHA256,
            "method": "clickwrap",
        }
    )
    accepted = _lines(environment, columns, "accepted", "u-1")
    row = rf"aup +2026-01 +{_TIME}( +{_TIME})? .*{_TEXT_SHA256[:12]}.*"
    assert any(re.fullmatch(row, line) for line in accepted), accepted
