"""Every retry policy is documented, with the numbers of the code."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from typing import Any, Final

import pytest

from tests.architecture.source_tree import modules
from tests.documents import ROOT, Document
from worker.repository.writes import write_retries
from worker.runtime.retry import RetryPolicy
from worker.settings import AWSSettings, Settings

SECTION: Final = Document("worker/README.md").section("## Retries")
_ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in SECTION.splitlines()
    if line.startswith("| ")
]
POLICIES: Final = [row for row in _ROWS if len(row) == 6 and row[0] != "policy, innermost first"]
INTERVALS: Final = [row for row in _ROWS if len(row) == 3 and row[0] != "repeated"]
# The defaults, whatever the environment.
AWS: Final = AWSSettings.model_construct()
SETTINGS: Final = Settings.model_construct()
_TIMES: Final = "\N{MULTIPLICATION SIGN}"


def _values(cell: str) -> list[Any]:
    """Return the values that a cell names by their path below `worker`."""
    return [_value(path) for path in re.findall(r"`([\w.]+)`", cell)]


def _value(path: str) -> Any:
    module, attributes = "worker", path.split(".")
    while (ROOT / module.replace(".", "/")).is_dir():
        module = f"{module}.{attributes.pop(0)}"
    value: Any = import_module(module)
    for each in attributes:
        value = getattr(value, each)
    if callable(value):
        return value(AWS if value is write_retries else SETTINGS)
    return value


def _numbers(cell: str) -> list[float]:
    return [float(each) for each in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", cell)]


@pytest.mark.parametrize("row", POLICIES, ids=lambda row: row[0])
def test_documented_numbers_of_a_policy_are_those_of_the_code(row: list[str]) -> None:
    _, code, _, attempts, delays, _ = row
    values = _values(code)
    if isinstance(values[0], int):  # retries of the SDK, which has delays of its own
        assert _numbers(attempts) == values
        return
    [policy] = values
    assert isinstance(policy, RetryPolicy)
    assert _numbers(attempts) == ([policy.attempts] if policy.attempts is not None else [])
    assert (attempts == "no maximum") is (policy.attempts is None)
    assert _numbers(delays) == [policy.base_seconds, policy.cap_seconds]


@pytest.mark.parametrize("row", INTERVALS, ids=lambda row: row[1])
def test_documented_interval_is_that_of_the_code(row: list[str]) -> None:
    _, code, seconds = row
    assert _numbers(seconds) == _values(code)


def test_every_policy_and_interval_is_documented() -> None:
    created = [
        node
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RetryPolicy"
    ]
    documented = [
        value for row in POLICIES for value in _values(row[1]) if isinstance(value, RetryPolicy)
    ]
    assert len(created) == len(documented) == 9
    assert len(INTERVALS) == 6


def test_documented_products_follow_from_the_policies() -> None:
    write, hold, redeliveries, sdk = (
        _value(path)
        for path in (
            "repository.writes.write_retries",
            "pipeline.record.hold_retries",
            "pipeline.record.redeliveries",
            "aws.client.SDK_ATTEMPTS",
        )
    )
    hours = redeliveries.attempts * (SETTINGS.hold_seconds + redeliveries.cap_seconds) / 3600
    text = " ".join(SECTION.split())
    assert f"{write.attempts} {_TIMES} {sdk} = {write.attempts * sdk} HTTP requests" in text
    assert f"delays of {hold.cap_seconds / 2:g} s on average" in text
    assert (
        f"{redeliveries.attempts} {_TIMES} ({SETTINGS.hold_seconds:g} s + "
        f"{redeliveries.cap_seconds:g} s) = {hours:g} hours" in text
    )
