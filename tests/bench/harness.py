"""Benchmark runs: scenarios in interleaved rounds, then the worker under conditions."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from tests.bench import baseline
from tests.bench.cost import cost_per_million_messages, read_prices
from tests.bench.environments import NotInstalledError
from tests.bench.machine import machine, versions
from tests.bench.peers import comparison
from tests.bench.results import (
    Case,
    Peer,
    Ratio,
    Results,
    SingleMessage,
    case,
    idleness,
    ratio,
    served,
    summarize,
)
from tests.bench.runs import Run, measure_idle, measure_single_messages, run_scenario
from tests.bench.scenarios import SCENARIOS, SMALLEST_KIB, Concurrency, Scenario, Work
from tests.bench.startup import help_cpu_seconds
from tests.bench.stub.launch import Stub
from tests.bench.stub.load import measure
from worker.settings import DEFAULT_SLOTS, calls_for, writes_for

PARTS: Final = ("stub", "growth", "sizes", "latency", "lone", "idle", "help", "peers")
_CPU_RATIOS: Final = (
    ("D", "baseline"), ("D-tls", "baseline-tls"), ("D-extra", "baseline-extra"),
    ("A", "D"), ("B", "D"), ("C", "D"), ("A", "C"), ("B", "C"),
    ("A-tls", "D-tls"), ("B-tls", "D-tls"), ("C-tls", "D-tls"),
    ("A-tls", "C-tls"), ("B-tls", "C-tls"),
)  # fmt: skip


@dataclass(frozen=True)
class BenchmarkPlan:
    """Scenarios and parts of a benchmark.

    Attributes:
        scenarios: Names in the order of each round.
        parts: Elements of `PARTS`.
        messages: Numbers of messages that replace those of scenarios.
        growth: Numbers of messages of the growth part.
        sizes_kib: Sizes of message bodies.
        latencies_ms: Latencies of SQS and DynamoDB.
        case_messages: Messages for each size and latency.
        peer_rounds: Interleaved rounds of the peers.
        settings: Settings of every worker.
    """

    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    parts: tuple[str, ...] = PARTS
    rounds: int = 4
    messages: Mapping[str, int] = field(default_factory=dict)
    growth: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    sizes_kib: tuple[float, ...] = (SMALLEST_KIB, 4.0, 64.0)
    latencies_ms: tuple[tuple[float, float], ...] = ((0, 0), (8, 5), (10, 10), (50, 50))
    case_messages: int = 40_000
    peer_rounds: int = 3
    idle_seconds: float = 60.0
    lone_messages: int = 50
    stub_messages: int = 50_000
    settings: Mapping[str, str] = field(default_factory=dict)


def default_concurrency(slots: int = DEFAULT_SLOTS) -> Concurrency:
    """Return the settings that the worker derives from its slots."""
    calls = calls_for(slots)
    return Concurrency(slots=slots, polls=calls, writes=writes_for(slots), settles=calls)


def pools(settings: Mapping[str, str]) -> int:
    """Return the number of connections that the pools of a worker may hold.

    Args:
        settings: Settings that differ from the defaults.
    """
    default = default_concurrency(int(settings.get("AUP_SLOTS", DEFAULT_SLOTS)))
    polls = int(settings.get("AUP_POLL_CONCURRENCY", default.polls))
    settles = int(settings.get("AUP_SETTLE_CONCURRENCY", default.settles))
    writes = int(settings.get("AUP_WRITE_CONCURRENCY", default.writes))
    return polls + 4 * settles + 2 * writes + 4


def log(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - progress


class Bench:
    """Runs a plan on a running stub.

    Args:
        stub: The stub that all processes call.
        plan: What to run.
    """

    def __init__(self, stub: Stub, plan: BenchmarkPlan) -> None:
        self._stub = stub
        self._plan = plan
        self._runs: defaultdict[str, list[Run]] = defaultdict(list)
        self._not_run: dict[str, str] = {}

    def run(self) -> Results:
        """Run the whole plan.

        Raises:
            RunError: A run failed.
        """
        plan = self._plan
        wants = plan.parts.__contains__
        capacities = measure(self._stub, plan.stub_messages) if wants("stub") else []
        self._rounds()
        scenarios = {name: summarize(SCENARIOS[name], runs) for name, runs in self._runs.items()}
        prices = read_prices()
        ratios = self._ratios()
        against_baseline = ratios.get("cpu D/baseline")
        return Results(
            measured_on=datetime.now(UTC).date().isoformat(),
            machine=machine(),
            versions=versions(),
            scenarios=scenarios,
            ratios=ratios,
            baseline_ratio=against_baseline.median if against_baseline else None,
            growth=self._growth() if wants("growth") else [],
            sizes=self._sizes() if wants("sizes") else [],
            latencies=self._latencies() if wants("latency") else [],
            lone=self._lone() if wants("lone") else None,
            idle=idleness(
                measure_idle(self._stub, SCENARIOS["D"], plan.idle_seconds, plan.settings)
            )
            if wants("idle")
            else None,
            help_cpu_seconds=help_cpu_seconds() if wants("help") else None,
            peers=self._peers() if wants("peers") else [],
            not_run=self._not_run,
            stub=[served(capacity) for capacity in capacities],
            cost_per_million_messages={
                name: cost_per_million_messages(measured, prices)
                for name, measured in scenarios.items()
            },
        )

    def _rounds(self) -> None:
        scenarios = self._installed([SCENARIOS[name] for name in self._plan.scenarios])
        for number in range(self._plan.rounds):
            # Every other round is reversed, so that a machine that gets slower favours none.
            for scenario in scenarios if number % 2 == 0 else reversed(scenarios):
                self._runs[scenario.name].append(self._once(scenario, f"round {number + 1}"))

    def _installed(self, scenarios: list[Scenario]) -> list[Scenario]:
        """Install the baseline if it is needed, and return the scenarios that can run."""
        if not any(scenario.is_baseline for scenario in scenarios):
            return scenarios
        try:
            baseline.install()
        except NotInstalledError as error:
            self._not_run[SCENARIOS["baseline"].title] = str(error)
            return [scenario for scenario in scenarios if not scenario.is_baseline]
        return scenarios

    def _peers(self) -> list[Peer]:
        log("installing the peers")
        scenarios, not_run = comparison.install()
        self._not_run |= not_run
        return comparison.compare(scenarios, self._plan.peer_rounds, self._once)

    def _once(self, scenario: Scenario, label: str) -> Run:
        count = self._plan.messages.get(scenario.name, scenario.messages)
        return self._run(scenario, scenario.work(count), label)

    def _run(self, scenario: Scenario, work: Work, label: str) -> Run:
        if scenario.is_worker and not scenario.is_baseline:
            work = replace(work, settings={**work.settings, **self._plan.settings})
        run = run_scenario(self._stub, scenario, work)
        log(
            f"{label:>14} {scenario.name:19}{run.messages:>9,} messages"
            f"{run.cpu_us_per_message:>12,.0f} us/message{run.messages_per_second:>10,.0f}/s"
            f"{run.calls_per_message:>7.3f} calls{run.connections:>6} connections"
            f"{run.rss_mb:>7.0f} MB"
        )
        return run

    def _ratios(self) -> dict[str, Ratio]:
        ratios = {
            f"cpu {one}/{other}": ratio(
                [run.cpu_us_per_message for run in self._runs[one]],
                [run.cpu_us_per_message for run in self._runs[other]],
            )
            for one, other in _CPU_RATIOS
            if one in self._runs and other in self._runs
        }
        if "D" in self._runs and "E" in self._runs:
            ratios["wall E/D"] = ratio(
                [run.messages_per_second for run in self._runs["E"]],
                [run.messages_per_second for run in self._runs["D"]],
            )
            ratios["cores E/D"] = ratio(
                [2 * run.messages_per_cpu_second for run in self._runs["E"]],
                [run.messages_per_cpu_second for run in self._runs["D"]],
            )
        return ratios

    def _case(self, work: Work, concurrency: Concurrency, label: str) -> Case:
        run = self._run(SCENARIOS["D"], work, label)
        bounds = concurrency.bounds(work.sqs_latency_ms, work.dynamodb_latency_ms)
        return case(work, bounds, summarize(SCENARIOS["D"], [run]))

    def _growth(self) -> list[Case]:
        counts = sorted(self._plan.growth)
        return [
            # The warm-up is short, because memory must not grow after the first mark.
            self._case(
                Work(count, warm_up=0.02, marks=tuple(each for each in counts if each < count)),
                default_concurrency(),
                "growth",
            )
            for count in counts
        ]

    def _sizes(self) -> list[Case]:
        return [
            # Fewer large messages, or the run would measure only the copying of their bytes.
            self._case(
                Work(max(500, round(self._plan.case_messages / max(1.0, kib))), message_kib=kib),
                default_concurrency(),
                f"{kib:g} KiB",
            )
            for kib in self._plan.sizes_kib
        ]

    def _latencies(self) -> list[Case]:
        return [
            self._case(
                Work(self._plan.case_messages, sqs_latency_ms=sqs, dynamodb_latency_ms=table),
                default_concurrency(),
                f"{sqs:g}/{table:g} ms",
            )
            for sqs, table in self._plan.latencies_ms
        ]

    def _lone(self) -> SingleMessage:
        count, settings = self._plan.lone_messages, self._plan.settings
        return SingleMessage(
            worker_ms=measure_single_messages(self._stub, SCENARIOS["D"], count, settings),
            call_for_each_step_ms=measure_single_messages(self._stub, SCENARIOS["C"], count),
        )
