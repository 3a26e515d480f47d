"""Plans for three rates, compared with manual calculations."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infra.stacks import resources
from worker.aws.prices import shipped
from worker.errors import UsageError
from worker.planning.cost import sqs_requests_per_message
from worker.planning.limits import Limit
from worker.planning.plan import Plan, make_plan, parameters, remarks, report, requests
from worker.planning.sizing import Demand, messages_per_call, rate_per_second, size

FIGURES = shipped()
CPU_US = 1.742 * 63.9  # 111.3
# 801 bytes and the latencies are those of the bench; a month has 730 h, or 2,628,000 s.
USUAL = Demand(
    rate=10_000, record_bytes=801, utilisation=0.6, burst=2, sqs_ms=8, dynamodb_ms=5
)  # fmt: skip


def planned(rate: str, **changes: Any) -> Plan:
    options: dict[str, Any] = {
        "architecture": "arm64",
        "network": "endpoints",
        "spot": False,
    }
    demand = {name: value for name, value in changes.items() if name not in options}
    options |= {name: value for name, value in changes.items() if name in options}
    return make_plan(replace(USUAL, rate=rate_per_second(rate), **demand), FIGURES, **options)


def parts(plan: Plan) -> dict[str, float]:
    return {each.name: round(each.amount, 2) for each in plan.costs}


def limit(plan: Plan, name: str) -> Limit:
    return next(each for each in plan.limits if each.name.startswith(name))


def billed(plan: Plan) -> float:
    return sqs_requests_per_message(plan.demand, plan.fleet, FIGURES)


class TestTenThousandAMinute:
    PLAN = planned("10000/min")

    def test_a_quarter_of_a_vcpu_is_enough(self) -> None:
        fleet = self.PLAN.fleet
        assert fleet.cores == pytest.approx(166.667 * CPU_US / 1e6, rel=1e-4)  # 0.0186
        assert (fleet.tasks, fleet.task_vcpu, fleet.task_memory_mib) == (1, 0.25, 512)
        # 0.25 s of CPU a second, 111.3 µs a message; six tenths of it.
        assert fleet.planned_rate == pytest.approx(1347.5, abs=0.1)
        assert fleet.settings == {}

    def test_the_first_month_costs_744_dollars(self) -> None:
        # 438 million messages. 1.333 arrive in the 8 ms of a call: 1.333 + e^-1.333 are 1.597 in
        # each receive and in each delete, and 548.6 million requests.
        assert parts(self.PLAN) == {
            "SQS requests": 219.42,  # at 0.40
            "DynamoDB writes": 273.75,  # 438 million at 0.625
            "DynamoDB reads": 0.01,  # 438 million x 0.0001 at 0.125 a million
            "DynamoDB storage": 165.39,  # 438 million of 901 bytes: 367.54 GB at 0.25 + 0.20
            "Fargate": 7.21,  # 730 h x (0.25 x 0.03238 + 0.5 x 0.00356)
            "CloudWatch logs": 0.07,  # 87,600 summaries of 1,600 bytes: 0.14 GB at 0.50
            "CloudWatch metrics, alarms": 12.9,  # 35 at 0.30, 24 at 0.10
            "Network: VPC endpoints": 65.01,  # 8 x 730 h x 0.01; 661.24 GB of 1,621 bytes at 0.01
        }
        assert self.PLAN.total == pytest.approx(743.75, abs=0.01)
        assert self.PLAN.growth == pytest.approx(165.39, abs=0.01)
        assert self.PLAN.once.amount == 0, "a new table sustains the rate"

    def test_no_quota_is_exceeded(self) -> None:
        assert not [each.name for each in self.PLAN.limits if each.to_raise]
        assert any("above this rate and its bursts" in each for each in remarks(self.PLAN))
        ((sentence, command),) = requests(self.PLAN)
        assert sentence == "no default quota is exceeded; a new account may have less"
        assert command.startswith("aws service-quotas get-service-quota ")


class TestTenThousandASecond:
    PLAN = planned("10000/s")

    def test_two_tasks_of_one_vcpu_are_enough(self) -> None:
        fleet = self.PLAN.fleet
        assert fleet.cores == pytest.approx(CPU_US / 100)
        assert (fleet.tasks, fleet.task_vcpu, fleet.tasks_max) == (2, 1.0, 10)
        assert fleet.planned_rate == pytest.approx(0.6e6 / CPU_US)  # 5,391
        # From receive to delete: 3.9 + 8 + 8 + 5 ms.
        assert fleet.in_flight == pytest.approx(249)
        # Four times 8,984/s x 21 ms are 755 messages in flight: the default slots suffice.
        assert fleet.settings == {}

    def test_the_month_costs_29000_dollars_mostly_writes_and_storage(self) -> None:
        # 26,280 million messages.
        assert parts(self.PLAN) == {
            "SQS requests": 2102.4,
            "DynamoDB writes": 16425.0,
            "DynamoDB reads": 0.33,
            "DynamoDB storage": 9923.45,
            "Fargate": 57.67,  # 2 x 730 h x (0.03238 + 2 x 0.00356)
            "CloudWatch logs": 0.13,
            "CloudWatch metrics, alarms": 12.9,
            "Network: VPC endpoints": 455.14,
        }
        assert self.PLAN.once.amount == pytest.approx(16_000 * 0.00065)

    def test_warm_throughput_is_twice_the_rate(self) -> None:
        assert self.PLAN.demand.warm_write_units == 20_000
        assert parameters(self.PLAN)["data.yaml"] == {"WarmWriteUnits": 20_000}

    def test_ten_tasks_exceed_the_six_vcpus_of_a_new_account(self) -> None:
        assert [each.name for each in self.PLAN.limits if each.to_raise] == [
            "Fargate: On-Demand vCPU"
        ]
        assert limit(self.PLAN, "Fargate").reached_at == pytest.approx(3 * 0.6e6 / CPU_US)  # 16,173
        ((sentence, command),) = requests(self.PLAN)
        assert sentence == "Fargate: On-Demand vCPU: 20 needed, 6 by default"
        assert command == (
            "aws service-quotas request-service-quota-increase --service-code fargate "
            "--quota-code L-3032A538 --desired-value 20"
        )

    def test_a_deployment_runs_every_task_twice(self) -> None:
        deployment = resources("service", "AWS::ECS::Service")["Service"]["DeploymentConfiguration"]
        assert deployment["MaximumPercent"] == 200
        assert limit(self.PLAN, "Fargate").needed == 2 * 10
        assert limit(self.PLAN, "VPC").needed == 2 * 10
        assert limit(self.PLAN, "VPC").reached_at == pytest.approx(2500 * 0.6e6 / CPU_US)
        assert limit(self.PLAN, "SQS").needed == 2 * 10 * 1500
        assert limit(self.PLAN, "SQS").reached_at == pytest.approx(40 * 0.6e6 / CPU_US)
        # The quota counts desired tasks.
        assert limit(self.PLAN, "ECS: tasks per service").needed == 10

    def test_spot_is_cheaper_except_for_the_first_task(self) -> None:
        spot = planned("10000/s", spot=True)
        assert parts(spot)["Fargate"] == pytest.approx(1.3 * 730 * 0.0395, abs=0.01)
        assert limit(spot, "Fargate").name == "Fargate: Spot vCPU"


class TestAMillionASecond:
    PLAN = planned("1000000/s")

    def test_186_tasks_are_needed(self) -> None:
        assert self.PLAN.fleet.cores == pytest.approx(CPU_US)
        assert self.PLAN.fleet.tasks == 186  # 111.3 / 0.6 = 185.5
        assert self.PLAN.fleet.tasks_max == 372

    def test_prices_fall_with_the_amount(self) -> None:
        cents = parts(self.PLAN)
        # 525,600 million requests: 100,000 at 0.40, 100,000 at 0.30, 325,600 at 0.24.
        assert cents["SQS requests"] == pytest.approx(40_000 + 30_000 + 78_144)
        assert cents["DynamoDB writes"] == pytest.approx(1_642_500)
        # 3,967,423 GB: 1,048,576 at 0.010, the rest at 0.006.
        assert cents["Network: VPC endpoints"] == pytest.approx(58.4 + 10_485.8 + 17_513.1, abs=0.1)

    def test_three_quotas_must_be_raised_fargate_first(self) -> None:
        assert [each.name for each in self.PLAN.limits if each.to_raise] == [
            "Fargate: On-Demand vCPU",
            "DynamoDB: on-demand table writes",
            "SQS: messages in flight",
        ]
        needed = {each.name.split(":")[0]: each.needed for each in self.PLAN.limits}
        assert needed["DynamoDB"] == 2_000_000
        assert needed["SQS"] == 2 * 372 * 1500
        assert needed["PrivateLink"] == pytest.approx(12.968)  # 2e6 x 1,621 bytes x 8 / 2 zones
        assert any("below this rate" in each for each in remarks(self.PLAN))
        assert requests(self.PLAN)[2] == (
            "SQS: messages in flight: 1,116,000 needed, 120,000 by default",
            "open a case with AWS Support",
        )


class TestSizes:
    @pytest.mark.parametrize(("record_bytes", "units"), [(1, 1), (1024, 1), (1025, 2), (4096, 4)])
    def test_a_write_unit_is_a_started_kib(self, record_bytes: int, units: int) -> None:
        plan = planned("10000/s", record_bytes=record_bytes)
        assert plan.demand.write_units == units
        assert plan.demand.warm_write_units == 20_000 * units
        assert limit(plan, "DynamoDB").reached_at == 40_000 / units

    def test_longer_messages_cost_more_cpu_and_sqs_requests(self) -> None:
        # 4 KiB of body: 1.742 x (63.9 + 10.7 x (4096 - 400) / 1024); the bench measured 95 x 1.742.
        plan = planned("10000/s", record_bytes=4096 + 401)
        assert plan.fleet.cpu_us == pytest.approx(178.5904)
        assert billed(plan) == pytest.approx(0.2)
        # Ten of 64 KiB are ten billed requests; 30 ms are long enough for ten to arrive.
        assert billed(planned("10000/s", record_bytes=65_536 + 401, sqs_ms=30)) == pytest.approx(
            1.1
        )

    def test_batches_contain_what_arrives_during_a_call(self) -> None:
        assert messages_per_call(0.001, 0.008) == pytest.approx(1)
        # One on average: e^-1 of the calls wait for a message.
        assert messages_per_call(125, 0.008) == pytest.approx(1.3679, abs=1e-4)
        assert messages_per_call(1e6, 0.008) == 10
        assert messages_per_call(1e6, 0) == 1
        # At one message a day each of the receives that wait 20 s is billed, and one delete.
        assert billed(planned("1/day")) == pytest.approx(86_400 / 20 + 1)

    @pytest.mark.parametrize("rate", [20, 167, 500, 1000])
    def test_batches_of_a_simulated_poller_have_that_size(self, rate: float) -> None:
        random, seconds = Random(17), 0.008
        arrivals = list(accumulate(random.expovariate(rate) for _ in range(20_000)))
        now, taken, calls = 0.0, 0, 0
        while taken < len(arrivals):
            now = max(now, arrivals[taken])
            taken = min(bisect_right(arrivals, now), taken + 10)
            now, calls = now + seconds, calls + 1
        assert taken / calls == pytest.approx(messages_per_call(rate, seconds), rel=0.05)

    @given(st.floats(1e-3, 1e6), st.floats(1, 10), st.floats(0, 1))
    def test_a_higher_rate_never_has_smaller_batches(
        self, rate: float, factor: float, seconds: float
    ) -> None:
        fewer, more = (messages_per_call(each, seconds) for each in (rate, rate * factor))
        assert 1 <= fewer <= more + 1e-9 <= 10 + 1e-9

    def test_high_latency_requires_more_tasks(self) -> None:
        # 200 polls of ten in 2 s: 1,000/s, however much CPU there is.
        fleet = size(replace(USUAL, sqs_ms=2000), FIGURES.measured)
        assert fleet.task_rate == pytest.approx(1000)
        assert fleet.tasks == 17  # 10,000 / (1,000 x 0.6) = 16.7
        # Its 200 polls follow from the slots.
        assert fleet.settings.keys() == {"AUP_SLOTS"}

    def test_requested_task_size_is_used(self) -> None:
        fleet = planned("10000/s", task_vcpu=0.5).fleet
        assert (fleet.task_vcpu, fleet.task_memory_mib, fleet.tasks) == (0.5, 1024, 4)

    def test_task_of_four_vcpus_runs_four_processes(self) -> None:
        one, four = (planned("10000/s", task_vcpu=each).fleet for each in (1.0, 4.0))
        assert (four.task_vcpu, four.task_memory_mib, four.tasks) == (4.0, 8192, 1)
        assert (one.processes, four.processes) == (1, 4)
        assert four.task_rate == pytest.approx(4 * one.task_rate)
        assert four.slots == 4 * one.slots

    @given(
        st.floats(0.001, 1e7), st.integers(1, 400_000), st.floats(0.05, 1), st.floats(1, 100)
    )  # fmt: skip
    def test_plan_always_sustains_its_rate(
        self, rate: float, record_bytes: int, utilisation: float, burst: float
    ) -> None:
        demand = Demand(rate, record_bytes, utilisation, burst, 8, 5)
        fleet = size(demand, FIGURES.measured)
        assert fleet.tasks * fleet.planned_rate >= rate * (1 - 1e-6)
        assert fleet.tasks == 1 or (fleet.tasks - 1) * fleet.planned_rate < rate
        assert fleet.tasks_max >= fleet.tasks
        assert fleet.process_mb * 1e6 < fleet.task_memory_mib * 1024**2


class TestNetworks:
    def test_each_network_path_has_its_price(self) -> None:
        gigabytes = 26_280e6 * 1621 / 2**30
        assert parts(planned("10000/s", network="public"))[
            "Network: public addresses"
        ] == pytest.approx(2 * 730 * 0.005)
        nat = planned("10000/s", network="nat")
        assert parts(nat)["Network: NAT gateways"] == pytest.approx(
            2 * 730 * 0.045 + gigabytes * 0.045, abs=0.01
        )
        assert not [each for each in nat.limits if each.name.startswith("PrivateLink")]


class TestRates:
    @pytest.mark.parametrize(
        ("text", "rate"),
        [
            ("10000/min", 166.667),
            ("1,000,000/s", 1e6),
            ("3_600/h", 1),
            ("86400/day", 1),
            ("1.5 / s", 1.5),
        ],
    )
    def test_valid_rates_are_parsed(self, text: str, rate: float) -> None:
        assert rate_per_second(text) == pytest.approx(rate, rel=1e-5)

    @pytest.mark.parametrize(
        "text", ["10000", "0/s", "-1/s", "1/week", "nan/s", "1e9/s", "9" * 40 + "/s", ""]
    )
    def test_invalid_rates_are_rejected_with_the_expected_form(self, text: str) -> None:
        with pytest.raises(UsageError, match="expected a rate such as 10000/min"):
            rate_per_second(text)


def test_every_reported_number_has_an_explanation() -> None:
    document = report(planned("10000/s"))
    rows = [
        *document["needs"],
        *document["limits"],
        *document["month"]["parts"],
        *document["variants"],
        *(part for each in document["variants"] for part in each["parts_of_first_month"]),
        document["once"],
    ]
    assert all(len(each["why"]) > 10 for each in rows)
    assert all(len(each["source"]) > 10 for each in document["limits"])
    json.dumps(document)
