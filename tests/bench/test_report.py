"""Tests of the arithmetic between the runs and the report."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from tests.bench import __main__ as command
from tests.bench import quick
from tests.bench.charts import draw
from tests.bench.cost import PerMillion, Prices, cost_per_million_messages, read_prices
from tests.bench.harness import default_concurrency, pools
from tests.bench.report import bound, figure, markdown, saved, table
from tests.bench.results import (
    Case,
    Idleness,
    Peer,
    Ratio,
    Results,
    Served,
    SingleMessage,
    ratio,
    summarize,
)
from tests.bench.runs import Idle, Run
from tests.bench.scenarios import SCENARIOS, Concurrency, Work
from tests.bench.targets import Target, targets

RUN = Run(
    messages=20_000,
    seconds=2.0,
    cpu_us_per_message=80.0,
    messages_per_second=9_000.0,
    calls={"BatchExecuteStatement": 0.04, "DeleteMessageBatch": 0.1, "ReceiveMessage": 0.1},
    connections=20,
    tls_handshakes=0,
    rss_mb=80.0,
    rss_at=((4_000, 79.0), (20_000, 80.0)),
    p50_ms=5.0,
    p99_ms=20.0,
    start_seconds=0.5,
    write_units_per_message=1.0,
    read_units_per_message=0.0001,
    sqs_requests_per_message=0.2,
    stub_cpu_us_per_message=8.0,
)
PRICES = Prices(
    currency="USD", per_million=PerMillion(sqs_requests=0.4, write_units=0.625, read_units=0.125)
)


def simpler_run(cpu_us: float, connections: int) -> Run:
    return replace(
        RUN,
        messages=100,
        cpu_us_per_message=cpu_us,
        connections=connections,
        calls={"ReceiveMessage": 0.1, "PutItem": 1.0, "DeleteMessage": 1.0},
    )


RUNS = {
    "A": simpler_run(150_000, 201),
    "B": simpler_run(25_000, 110),
    "C": simpler_run(2_200, 20),
    "D": RUN,
    "E": replace(RUN, cpu_us_per_message=85.0, messages_per_second=17_500.0),
    "baseline": replace(RUN, cpu_us_per_message=160.0),
    "D-extra": replace(RUN, cpu_us_per_message=120.0),
    "baseline-extra": replace(RUN, cpu_us_per_message=200.0),
    "B-tls": replace(simpler_run(25_000, 110), tls_handshakes=110),
    "C-tls": replace(simpler_run(1_200, 20), tls_handshakes=20),
    "D-tls": replace(RUN, tls_handshakes=20),
    "baseline-tls": replace(RUN, cpu_us_per_message=160.0, tls_handshakes=20),
}
LONG_RUN = replace(
    RUN, messages=1_000_000, rss_at=((20_000, 70.0), (100_000, 80.0), (1_000_000, 82.0))
)
SERVED = Served(
    operation="ReceiveMessage",
    requests_per_second=30_000,
    cpu_us_per_request=50,
    cpu_us_per_message=5,
)


def good_results() -> Results:
    """Return results that meet every target."""
    scenarios = {name: summarize(SCENARIOS[name], [run]) for name, run in RUNS.items()}
    ratios = {
        f"cpu {name}/D": ratio([RUNS[name].cpu_us_per_message], [RUN.cpu_us_per_message])
        for name in ("A", "B", "C")
    }
    for name in ("", "-tls", "-extra"):
        ours, baseline = RUNS[f"D{name}"], RUNS[f"baseline{name}"]
        ratios[f"cpu D{name}/baseline{name}"] = ratio(
            [ours.cpu_us_per_message], [baseline.cpu_us_per_message]
        )
    ratios["wall E/D"] = ratio([17_500.0], [9_000.0])
    ratios["cores E/D"] = ratio([1.0], [1.0])
    return Results(
        measured_on="2026-01-01",
        machine={"processor": "P", "cores": 4, "memory_mib": 8192, "system": "S"},
        versions={"python": "3"},
        scenarios=scenarios,
        ratios=ratios,
        growth=[make_case(replace(RUN, messages=10_000)), make_case(LONG_RUN)],
        latencies=[
            make_case(replace(RUN, messages_per_second=16_000.0), sqs_ms=8, dynamodb_ms=5),
            make_case(replace(RUN, messages_per_second=6_000.0), sqs_ms=50, dynamodb_ms=50),
        ],
        peers=[
            make_peer("aup-worker", "batch", 80.0),
            make_peer("fanferro-empty", "none", 90.0),
            make_peer("fanferro-batch", "batch", 250.0),
            make_peer("boto3-batch", "batch", 400.0),
            make_peer("boto3", "each", 1_600.0),
        ],
        help_cpu_seconds=0.1,
        sizes=[make_case(RUN)],
        idle=Idleness(seconds=20, calls=1, calls_per_minute=3, cpu_percent=0.2),
        lone=SingleMessage(worker_ms=3.0, call_for_each_step_ms=2.0),
        stub=[SERVED],
        cost_per_million_messages={
            name: cost_per_million_messages(measured, PRICES)
            for name, measured in scenarios.items()
        },
    )


def make_peer(name: str, writes: Literal["none", "each", "batch"], cpu_us: float) -> Peer:
    run = replace(RUN, cpu_us_per_message=cpu_us)
    scenario = replace(SCENARIOS["C"], name=name, title=name)
    return Peer(
        name=name,
        writes=writes,
        leaves_out="validation",
        cpu_by_ours=ratio([cpu_us], [RUN.cpu_us_per_message]),
        measured=summarize(scenario, [run]),
    )


def make_case(run: Run, *, sqs_ms: float = 0, dynamodb_ms: float = 0) -> Case:
    return Case(
        message_kib=0.4,
        sqs_latency_ms=sqs_ms,
        dynamodb_latency_ms=dynamodb_ms,
        settings={},
        bounds=default_concurrency().bounds(sqs_ms, dynamodb_ms),
        measured=summarize(SCENARIOS["D"], [run]),
    )


class TestSummary:
    def test_figures_are_medians_with_minimum_and_maximum(self) -> None:
        runs = [replace(RUN, cpu_us_per_message=us) for us in (90.0, 70.0, 80.0)]
        measured = summarize(SCENARIOS["D"], runs)
        assert measured.cpu_us_per_message == 80.0
        assert measured.spread["cpu_us_per_message"] == (70.0, 90.0)
        assert measured.messages_per_cpu_second == 12_500
        assert measured.rounds == 3
        assert measured.calls_per_message == pytest.approx(0.24)

    def test_operation_absent_in_most_rounds_counts_as_zero(self) -> None:
        odd = replace(RUN, calls={"ChangeMessageVisibilityBatch": 0.01})
        assert (
            summarize(SCENARIOS["D"], [RUN, RUN, odd]).calls_by_operation[
                "ChangeMessageVisibilityBatch"
            ]
            == 0
        )

    def test_ratio_is_calculated_round_by_round(self) -> None:
        found = ratio([10.0, 40.0, 60.0], [10.0, 10.0, 20.0])
        assert found == Ratio(median=3.0, least=1.0, most=4.0)

    def test_idle_calls_are_reported_per_minute(self) -> None:
        assert Idle(seconds=20, calls=1, cpu_percent=0).calls_per_minute == 3

    def test_single_message_is_compared_with_one_call_for_each_step(self) -> None:
        assert SingleMessage(worker_ms=3.0, call_for_each_step_ms=2.25).batching_ms == 0.75

    def test_warm_up_ends_after_a_whole_receive(self) -> None:
        assert Work(20_000).warm_messages == 4_000
        assert Work(33).warm_messages == 10
        assert Work(5).warm_messages == 4


class TestLittlesLaw:
    def test_limit_of_a_setting_is_its_concurrency_divided_by_latency(self) -> None:
        bounds = Concurrency(slots=500, polls=8, writes=16, settles=4).bounds(8, 5)
        assert bounds == {
            "AUP_SLOTS": pytest.approx(500 / 0.021),
            "AUP_POLL_CONCURRENCY": pytest.approx(10_000),
            "AUP_WRITE_CONCURRENCY": pytest.approx(80_000),
            "AUP_SETTLE_CONCURRENCY": pytest.approx(5_000),
        }

    def test_no_setting_limits_without_latency(self) -> None:
        assert not Concurrency(1, 1, 1, 1).bounds(0, 0)
        assert bound(make_case(RUN))[0] == ""

    def test_most_limiting_setting_is_named(self) -> None:
        case = make_case(RUN, sqs_ms=50, dynamodb_ms=50).model_copy(
            update={"bounds": {"AUP_SLOTS": 3_000.0, "AUP_POLL_CONCURRENCY": 1_600.0}}
        )
        assert bound(case) == ("AUP_POLL_CONCURRENCY", 1_600.0)

    def test_pools_follow_the_settings(self) -> None:
        more = pools({"AUP_POLL_CONCURRENCY": str(default_concurrency().polls + 3)})
        assert more == pools({}) + 3


class TestCost:
    def test_costs_of_a_million_messages_follow_the_price_list(self) -> None:
        parts = cost_per_million_messages(summarize(SCENARIOS["D"], [RUN]), PRICES)
        assert parts["sqs_requests"] == pytest.approx(0.08)
        assert parts["write_units"] == pytest.approx(0.625)
        assert sum(parts.values()) == pytest.approx(0.705, abs=0.001)

    def test_price_table_is_read(self) -> None:
        assert read_prices() == PRICES


class TestTargets:
    def test_good_results_meet_every_target(self) -> None:
        checked = targets(good_results())
        assert [target.what for target in checked if not target.met] == []
        assert len(checked) == 26

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"calls": {**RUN.calls, "ReceiveMessage": 0.12}}, "calls per message, D"),
            (
                {"calls": {"ReceiveMessage": 0.1, "ChangeMessageVisibilityBatch": 0.02}},
                "calls per message other than receive, delete and write",
            ),
            ({"write_units_per_message": 1.01}, "write units per message under 1 KB"),
            ({"read_units_per_message": 0.01}, "read units per message"),
            ({"rss_mb": 111.0}, "peak RSS"),
            ({"start_seconds": 0.61}, "process start to first poll"),
        ],
    )
    def test_worse_worker_misses_its_target(self, change: dict[str, object], what: str) -> None:
        results = good_results()
        worse = summarize(SCENARIOS["D"], [replace(RUN, **change)])  # type: ignore[arg-type] # a mixed table
        changed = results.model_copy(update={"scenarios": {**results.scenarios, "D": worse}})
        assert [target.what for target in targets(changed) if not target.met] == [what]

    @pytest.mark.parametrize(
        ("name", "what"),
        [
            ("cpu D/baseline", "CPU per message, D relative to release 0.1.0"),
            ("cpu D-tls/baseline-tls", "CPU per message, D, TLS, relative to release 0.1.0"),
            (
                "cpu D-extra/baseline-extra",
                "CPU per message, D, 4 KiB with unknown fields, relative to release 0.1.0",
            ),
        ],
    )
    def test_too_little_gain_over_the_baseline_misses_its_target(
        self, name: str, what: str
    ) -> None:
        ratios = {**good_results().ratios, name: Ratio(median=0.66, least=0.5, most=0.7)}
        changed = good_results().model_copy(update={"ratios": ratios})
        assert [target.what for target in targets(changed) if not target.met] == [what]

    @pytest.mark.parametrize(
        ("peer", "what"),
        [
            (
                make_peer("fanferro-empty", "none", 79.0),
                "CPU per message, ours relative to fanferro-empty",
            ),
            (
                make_peer("fanferro-batch", "batch", 239.0),
                "CPU per message, fanferro-batch, relative to ours",
            ),
        ],
    )
    def test_a_cheaper_peer_misses_its_target(self, peer: Peer, what: str) -> None:
        peers = [peer if each.name == peer.name else each for each in good_results().peers]
        changed = good_results().model_copy(update={"peers": peers})
        assert [target.what for target in targets(changed) if not target.met] == [what]

    def test_rates_and_memory_are_checked_at_the_defaults(self) -> None:
        slow = replace(RUN, messages_per_second=4_999.0, rss_mb=111.0)
        case = make_case(slow, sqs_ms=50, dynamodb_ms=50)
        changed = good_results().model_copy(update={"latencies": [case]})
        assert [target.what for target in targets(changed) if not target.met] == [
            "peak RSS",
            "messages per second with 50 ms latency of SQS and 50 ms of DynamoDB",
        ]

    def test_cpu_of_help_is_checked(self) -> None:
        changed = good_results().model_copy(update={"help_cpu_seconds": 0.16})
        assert [each.what for each in targets(changed) if not each.met] == ["CPU of `--help`"]

    def test_memory_growth_is_measured_from_the_mark_before_the_last(self) -> None:
        run = replace(RUN, messages=1_000_000, rss_at=((100_000, 80.0), (1_000_000, 84.8)))
        results = good_results().model_copy(update={"growth": [make_case(RUN), make_case(run)]})
        (missed,) = [target for target in targets(results) if not target.met]
        assert missed.what == "RSS drift from 100,000 to 1,000,000 messages"
        assert missed.value == pytest.approx(6)

    def test_two_workers_are_compared_by_cpu_if_there_are_too_few_cores(self) -> None:
        results = good_results()
        few = results.model_copy(update={"machine": {**results.machine, "cores": 2}})
        (missed,) = [target for target in targets(few) if not target.met]
        assert missed.what.startswith("two processes, with enough cores")

    def test_parts_that_were_not_run_have_no_targets(self) -> None:
        empty = Results(measured_on="", machine={"cores": 2}, versions={})
        assert targets(empty) == []

    def test_limit_itself_is_allowed(self) -> None:
        assert Target("", 4, 4).met
        assert Target("", 4, 4, least=True).met
        assert not Target("", 4.1, 4).met
        assert not Target("", 3.9, 4, least=True).met


class TestQuick:
    def test_good_results_pass_every_check(self) -> None:
        checked = list(quick.checks(good_results()))
        assert [target.what for target in checked if not target.met] == []

    @pytest.mark.parametrize(
        ("name", "run", "what"),
        [
            ("D", replace(RUN, connections=1_000), "D: connections"),
            ("D", replace(RUN, write_units_per_message=2.0), "D: write units per message"),
            ("A", simpler_run(150_000, 20), "A: connections per message"),
            ("C", replace(simpler_run(2_200, 20), calls={"PutItem": 1.0}), "C: calls per message"),
            ("D", replace(RUN, cpu_us_per_message=14.0), "CPU of the worker, relative to the stub"),
            ("C-tls", simpler_run(1_200, 20), "C-tls: handshakes per connection"),
        ],
    )
    def test_failed_check_is_named(self, name: str, run: Run, what: str) -> None:
        results = good_results()
        scenarios = {**results.scenarios, name: summarize(SCENARIOS[name], [run])}
        changed = results.model_copy(update={"scenarios": scenarios})
        assert [each.what for each in quick.checks(changed) if not each.met] == [what]

    def test_failed_check_is_reported_in_one_line_with_exit_code_1(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = good_results()
        assert command._report_checks(results) == 0
        ratios = {**results.ratios, "cpu C/D": Ratio(median=2, least=2, most=2)}
        assert command._report_checks(results.model_copy(update={"ratios": ratios})) == 1
        assert "FAILED CPU per message, C/D: 2, must be at least 15.6" in capsys.readouterr().err


class TestReport:
    def test_figures_keep_three_significant_digits(self) -> None:
        values = [189_507.3, 99.94, 4.256, 0.04012, 0.0]
        assert [figure(value) for value in values] == ["189,507", "99.9", "4.26", "0.0401", "0"]

    def test_savings_are_reported_in_percent(self) -> None:
        assert saved(200, 5) == "97.5 %"

    def test_table_aligns_figures(self) -> None:
        assert table(("a", "b"), [("x", "1")]) == "| a | b |\n| --- | ---: |\n| x | 1 |"

    def test_every_part_has_its_section(self) -> None:
        text = markdown(good_results(), PRICES)
        heads = [line for line in text.splitlines() if line.startswith("## ")]
        assert len(heads) == 12
        assert (
            "| CPU per message, D relative to release 0.1.0 | 0.5 times | ≤ 0.55 times | met |"
        ) in text
        assert "| boto3 | validation | 1,600 | 20.0 | 9,000 | 0.240 | 80.0 | 20,000, 1 |" in text
        assert "| C to D: batching | HTTP | 96.4 % | 99.5 % | 88.6 % |" in text
        assert "| **D** | 0.080 | 0.625 | 0.000 | 0.705 |" in text
        assert "uses 16.0 times as much" in text

    def test_parts_that_were_not_run_have_no_section(self) -> None:
        results = Results(
            measured_on="", machine=good_results().machine, versions={}, idle=good_results().idle
        )
        heads = [line for line in markdown(results, PRICES).splitlines() if line.startswith("##")]
        assert heads == ["## Targets", "## Low load"]

    def test_a_program_that_was_not_run_is_listed_with_its_reason(self) -> None:
        results = good_results().model_copy(update={"peers": [], "not_run": {"p 1": "no node"}})
        text = markdown(results, PRICES)
        assert "| p 1 | not run: no node |  |  |  |  |  |  |" in text
        assert "peers.svg" not in text

    def test_new_peers_replace_only_the_stored_peers(self, tmp_path: Path) -> None:
        baseline = SCENARIOS["baseline"].title
        stored = good_results().model_copy(update={"not_run": {baseline: "a", "old peer": "b"}})
        (tmp_path / "results.json").write_text(stored.model_dump_json())
        peers = [make_peer("aup-worker", "batch", 1.0)]
        measured = Results(measured_on="x", machine={}, versions={}, peers=peers)
        assert command.with_peers(measured, tmp_path) == stored.model_copy(
            update={"peers": peers, "not_run": {baseline: "a"}}
        )
        assert command.with_peers(measured, tmp_path / "absent") is measured

    def test_rendering_stored_results_is_reproducible(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command.write(good_results(), tmp_path)
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        before = {file: file.read_bytes() for file in files}
        monkeypatch.setattr(sys, "argv", ["bench", "--render", "--output", str(tmp_path)])
        assert command.main() == 0
        assert {file: file.read_bytes() for file in files} == before
        names = {file.name for file in files}
        assert names == {
            "results.json", "RESULTS.md", "savings.svg", "cost.svg", "growth.svg", "latency.svg",
            "peers.svg",
        }  # fmt: skip

    def test_report_shows_every_chart(self, tmp_path: Path) -> None:
        text = markdown(good_results(), PRICES)
        for file in draw(good_results(), PRICES, tmp_path):
            assert f"](charts/{file.name})" in text


class TestOptions:
    def test_options_change_the_plan(self) -> None:
        text = (
            "--only D,idle --rounds 2 --messages D=500 --growth 10,20 --sizes-kib 0.4,4"
            " --latencies-ms 0,8/5"
            " --set AUP_SLOTS=9 --set AUP_POLL_CONCURRENCY=2"
        )
        options = command._parser().parse_args(text.split())
        plan = command.plan_of(options)
        assert (plan.scenarios, plan.parts, plan.rounds) == (("D",), ("idle",), 2)
        assert plan.messages == {"D": 500}
        assert (plan.growth, plan.sizes_kib) == ((10, 20), (0.4, 4.0))
        assert list(plan.latencies_ms) == [(0, 0), (8, 5)]
        assert plan.settings == {"AUP_SLOTS": "9", "AUP_POLL_CONCURRENCY": "2"}

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("--only D,F", "unknown part F"),
            ("--set AUP_SLOTS", "NAME=VALUE"),
            ("--messages D", "NAME"),
        ],
    )
    def test_invalid_options_are_reported(self, text: str, problem: str) -> None:
        with pytest.raises(ValueError, match=problem):
            command.plan_of(command._parser().parse_args(text.split()))

    def test_options_extend_the_reduced_plan(self) -> None:
        options = command._parser().parse_args(["--quick", "--messages", "A=10"])
        plan = command.plan_of(options)
        assert plan == replace(quick.PLAN, messages={**quick.PLAN.messages, "A": 10})
