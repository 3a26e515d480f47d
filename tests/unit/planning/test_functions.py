"""The same work in a Lambda function, compared with manual calculations."""

from __future__ import annotations

import pytest

from tests.unit.planning.test_variants import FIGURES, demand, plan_of, variant
from worker.planning.cost import Terms
from worker.planning.functions import BATCHINGS, Batching, function_load, function_monthly

# Each of five pollers gets 33.33 messages per second: 0.2667 in the 8 ms of a receive.
RATE = 10_000 / 60


def amounts(rate: float, batching: Batching, architecture: str = "arm64") -> dict[str, float]:
    bill = function_monthly(demand(rate), FIGURES, Terms(architecture=architecture), batching)
    return {each.name: each.amount for each in bill}


def test_the_defaults_of_a_trigger_invoke_for_almost_every_message() -> None:
    load = function_load(demand(RATE), FIGURES, BATCHINGS[0])
    assert BATCHINGS[0] == (10, 0)
    assert load.messages == pytest.approx(0.26667 + 0.76593, abs=1e-4)  # 1.0326
    # 1 + 5 ms, and 1.0326 x 0.1113 ms x 1,769 / 512 MiB = 0.4 ms, billed as 7.
    assert load.milliseconds == 7
    assert load.concurrency == pytest.approx(RATE / 1.0326 * 0.007, rel=1e-3)
    # 424.2 million invocations.
    assert amounts(RATE, BATCHINGS[0]) == pytest.approx(
        {
            "SQS requests": 2 * 424.17 * 0.40,
            "DynamoDB writes": 273.75,
            "DynamoDB reads": 0.0055,
            "DynamoDB storage": 165.39,
            "Lambda requests": 424.17 * 0.20,
            "Lambda duration": 424.17e6 * 0.007 * 0.5 * 0.0000133334,
            "CloudWatch logs": 424.17e6 * 350 / 2**30 * 0.50,
            "CloudWatch metrics, alarms": 15 * 0.30 + 24 * 0.10,
        },
        rel=1e-3, abs=1e-4,
    )  # fmt: skip


def test_a_window_fills_batches_of_ten() -> None:
    load = function_load(demand(RATE), FIGURES, Batching(10, 1))
    assert load.messages == 10
    # 1 + 5 + 10 x 0.1113 x 3.455 = 9.85 ms.
    assert load.milliseconds == 10
    assert amounts(RATE, Batching(10, 1)) == pytest.approx(
        {
            "SQS requests": (424.17 + 43.8) * 0.40,  # deletes in full batches
            "DynamoDB writes": 273.75,
            "DynamoDB reads": 0.0055,
            "DynamoDB storage": 165.39,
            "Lambda requests": 8.76,  # 43.8 million at 0.20
            "Lambda duration": 2.92,  # 219,000 GB-s
            "CloudWatch logs": 7.14,  # 14.28 GB
            "CloudWatch metrics, alarms": 6.90,
        },
        rel=1e-3, abs=1e-4,
    )  # fmt: skip
    plan = plan_of(RATE)
    assert variant(plan, "Lambda, batch 10, window 1 s").total(1) == pytest.approx(652.05, abs=0.01)


def test_a_batch_is_limited_by_its_size_its_window_and_its_payload() -> None:
    needed = demand(RATE)
    assert function_load(needed, FIGURES, Batching(100, 5)).messages == 100
    assert function_load(needed, FIGURES, Batching(1000, 5)).messages == pytest.approx(166.67, 1e-4)
    # 6 MiB for bodies of 99,599 bytes with 820 bytes of attributes.
    longest = function_load(demand(1e5, record_bytes=100_000), FIGURES, Batching(1000, 5))
    assert longest.messages == 62


def test_an_idle_queue_is_polled_by_each_poller() -> None:
    # Five receives every 20 s are 657,000 a month.
    assert amounts(1e-9, BATCHINGS[0])["SQS requests"] == pytest.approx(0.657 * 0.40, rel=1e-3)


def test_x86_costs_a_quarter_more_per_second() -> None:
    arm, x86 = (amounts(RATE, BATCHINGS[1], each) for each in ("arm64", "x86_64"))
    assert x86.pop("Lambda duration") / arm.pop("Lambda duration") == pytest.approx(1.25, 1e-4)
    assert x86 == arm


def test_quotas_and_assumptions_are_stated() -> None:
    why = variant(plan_of(RATE), "Lambda, batch 100").why
    assert "100 messages per invocation of 45 ms" in why
    assert "quota 1,000; a new account may have 10 *" in why
    assert "[function] in worker/aws/prices.toml" in why
