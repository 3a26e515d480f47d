"""Regression tests with bodies that fuzzing has found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fuzz.decoding import Decoding
from tests.fuzz.pipeline_run import PipelineRun
from tests.unit.fakes import message
from worker.domain.acceptance import Acceptance
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import Reason

START = json.dumps(message())[:-1]


def _filled(element: str) -> str:
    count = (MESSAGE_MAX_BYTES - len(START) - 10) // (len(element) + 1)
    return f'{START}, "x": [{",".join([element] * count)}]}}'


def _unicode_keys() -> str:
    keys = (f',"{chr(0x4E00 + number % 20_000)}{number // 20_000}":0' for number in range(100_000))
    return START + "".join(keys) + "}"


EXPENSIVE = {
    "brackets": _filled("[]"),
    "deep brackets": _filled("[" * 90 + "]" * 90),
    "zeros": _filled("0"),
    "whole numbers of 4,299 digits": _filled("8" * 4299),
    "a hundred thousand names": _unicode_keys(),
    "the same within an envelope": json.dumps(
        {"specversion": "1.0", "data": _filled("0")[: MESSAGE_MAX_BYTES // 2] + "]}"}
    ),
}


@pytest.mark.parametrize("body", EXPENSIVE.values(), ids=list(EXPENSIVE))
def test_expensive_large_body_is_rejected_before_it_blocks_others(body: str) -> None:
    assert Decoding().decode(body) is Reason.INVALID


def test_message_of_nine_thousand_values_is_accepted() -> None:
    body = json.dumps(message(list=[0] * 9000))
    assert isinstance(Decoding().decode(body), Acceptance)


@pytest.mark.parametrize("number", [2**1024 - 1, -(10**300), 10**300 + 1, 1e308], ids="abcd")
def test_number_within_the_range_of_a_double_keeps_all_digits(number: float) -> None:
    decoded = Decoding().decode(json.dumps(message(x=number)))
    assert isinstance(decoded, Acceptance)
    assert json.loads(decoded.extra) == {"x": number}


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "1" * 310, "-" + "1" * 4000, "1" * 10_000], ids="abcde"
)
def test_number_beyond_the_range_of_a_double_is_rejected(number: str) -> None:
    for value in (number, f"[[{number}]]", f'{{"y": {number}}}'):
        assert isinstance(Decoding().decode(f'{START}, "x": {value}}}'), Reason)


BODIES: dict[str, list[dict[str, Any]]] = {
    "recorded": [message(1)],
    "unknown_policy": [message(2, version="2026\u2028-01")],
    "conflict": [
        message(3, event_id="two\u2028lines"),
        message(3, event_id="two\u2028lines", channel="?"),
    ],
}


@pytest.mark.parametrize("outcome", BODIES)
def test_line_separators_in_identifiers_do_not_appear_in_details(outcome: str) -> None:
    bodies = [json.dumps(each) for each in BODIES[outcome]]
    pipeline_run = PipelineRun()
    # It checks every detail in the log and in the dead letters.
    pipeline_run.process(bodies, [Decoding().decode(body) for body in bodies])
    assert pipeline_run.outcomes[outcome] == 1


def test_dead_letter_near_the_size_limit_has_a_detail_as_long_as_it_fits() -> None:
    pipeline_run = PipelineRun()
    for free_bytes in range(0, 1000, 50):
        digits = "7" * (MESSAGE_MAX_BYTES - free_bytes - len(START) - len(', "x": }'))
        body = f'{START}, "x": {digits}}}'
        assert len(body) == MESSAGE_MAX_BYTES - free_bytes
        pipeline_run.process([body], [Decoding().decode(body)])
    assert pipeline_run.outcomes["malformed"] + pipeline_run.outcomes["no space for a reason"] == 20
