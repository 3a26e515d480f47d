"""An erasure covers the fields that are present, and reports failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import IP, TEXT, acceptance
from worker.domain.evidence import ERASABLE, build_item
from worker.domain.origin import Edit, Origin
from worker.errors import AWSDeniedError, AWSError, AWSRejectedError
from worker.operations.evidence.erasure import erase, plan
from worker.repository import AUPRepository


def _item(**changes: Any) -> dict[str, Any]:
    return build_item(acceptance(**changes), TEXT, Origin.at(START), recorded_at=START)


class _Repository:
    def __init__(self, outcome: AWSError | Mapping[str, Any]) -> None:
        self.outcome = outcome

    async def erase(self, _item: Mapping[str, Any], _fields: Sequence[str]) -> Mapping[str, Any]:
        if isinstance(self.outcome, AWSError):
            raise self.outcome
        return self.outcome


def test_plan_contains_only_fields_with_a_value_or_a_salt() -> None:
    item = _item(session_id=None)
    del item["user_agent"]
    [planned] = plan([item, _item(ip=None, user_agent=None, session_id=None)], ERASABLE)
    assert planned.fields == ["ip", "user_agent"]
    assert planned.problem == ""


def test_value_that_also_occurs_in_another_attribute_is_reported() -> None:
    quoted = 'a "quoted" client'
    item = _item(user_agent=quoted, seen_from=[IP], client=quoted, session_id="nowhere else")
    [planned] = plan([item], ERASABLE)
    assert planned.elsewhere == ["ip", "user_agent"]
    assert IP not in str(planned.summary())


@pytest.mark.parametrize(
    "extra",
    [
        r'{"seen":"\u0032\u0030\u0033.0.113.77"}',
        r'{"seen":["x",{"from 203\u002e0.113.77":1E5}]}',
        r'{"nested":"{\"from\":\"203.0.113.77\"}"}',
        '{"seen":"203.0.113.77"',  # of another program
        f'{"[" * 100_000}"203.0.113.77"',
        '{"seen":"203.0.113.77","count":' + "9" * 5000 + "}",
    ],
)
def test_value_in_unknown_fields_is_found_however_it_is_written(extra: str) -> None:
    [planned] = plan([{**_item(), "extra": extra}], ERASABLE)
    assert planned.elsewhere == ["ip"]


def test_value_in_the_edits_is_found() -> None:
    edits = (Edit("2026-11-23T10:00:00Z", "eve", (f"devices.{IP}",)),)
    origin = Origin.at(START, edits=edits)
    item = build_item(acceptance(), TEXT, origin, recorded_at=START)
    [planned] = plan([item], ERASABLE)
    assert planned.elsewhere == ["ip"]


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (AWSRejectedError("the record has changed or is gone"), "changed or is gone"),
        (AWSDeniedError("UpdateItem: not permitted"), "not permitted"),
        ({**_item(), "channel": "forged"}, "record_sha256 does not match"),
    ],
)
async def test_failure_is_stored_in_the_erasure(
    outcome: AWSError | Mapping[str, Any], problem: str
) -> None:
    [planned] = plan([_item()], ["ip"])
    await erase(cast("AUPRepository", _Repository(outcome)), planned)
    assert problem in planned.problem
    assert not planned.done


async def test_record_that_does_not_verify_is_not_changed() -> None:
    [planned] = plan([{**_item(), "channel": "forged"}], ["ip"])
    await erase(cast("AUPRepository", None), planned)
    assert planned.problem == "record_sha256 does not match the record; not changed"
