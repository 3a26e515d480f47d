"""Run of a soak test: start, inject failures, drain and audit."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.servers.launch import fauxqs
from tests.soak.audit import AuditResult, audit
from tests.soak.chaos import Chaos
from tests.soak.environment import SoakEnvironment, until
from tests.soak.logs import has_started, unexpected_lines
from tests.soak.memory import Memory
from tests.soak.producer import Producer
from tests.soak.servers import PersistentTable, proxy_process
from tests.soak.workers import Worker, worker_environment

_STEP_SECONDS: Final = 0.1
_PROGRESS_SECONDS: Final = 10.0
_START_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 240.0
# Longer than a backoff or a poll, so that no message is unnoticed between two checks.
_EMPTY_SECONDS: Final = 4.0
_MAX_QUOTED: Final = 20


@dataclass
class SoakResult:
    """Result of a soak test."""

    result: AuditResult
    sent: int
    workers: Counter[str]
    faults: Counter[str]
    restarts: int
    memory: dict[str, float | None]
    drain_seconds: float
    unexpected_lines: Counter[str] = field(default_factory=Counter)
    quotes: list[str] = field(default_factory=list)


class Soak:
    """Soak test.

    Args:
        folder: Folder for the data of the table.
        logs: Folder for the logs of the workers.
        workers: Number of workers that are killed; one more is not.
        rate: Messages per second.
        seed: Seed of messages, kills and faults.
    """

    def __init__(self, folder: Path, logs: Path, workers: int, rate: int, seed: int) -> None:
        self._folder = folder
        self._logs = [logs / f"worker-{number}.log" for number in range(workers + 1)]
        self._rate = rate
        self._seed = seed
        self._began_at = time.monotonic()

    def run(self, seconds: float, stack: ExitStack) -> SoakResult:
        """Run under failures for `seconds`, drain and audit."""
        data = self._folder / "table"
        data.mkdir()
        table = PersistentTable(data)
        stack.callback(table.end)
        sqs_url = stack.enter_context(fauxqs())
        proxies = [
            stack.enter_context(proxy_process(url, self._seed + index))
            for index, url in enumerate((sqs_url, table.url))
        ]
        environment = SoakEnvironment(sqs_url, table.url)
        environment.create()
        settings = worker_environment(proxies[0].url, proxies[1].url, environment.names)
        figures: Counter[str] = Counter()
        workers: list[Worker] = []
        for log in self._logs:
            # The first one is a single process, whose memory is sampled.
            processes = {"AUP_PROCESSES": "2" if workers else "1"}
            workers.append(Worker(settings | processes, log, figures))
            stack.callback(workers[-1].end)
        # The first worker is never killed.
        until(lambda: has_started(self._logs[0]), _START_SECONDS, "a worker has started")
        memory = Memory()
        producer = Producer(environment, self._rate, Random(self._seed))
        chaos = Chaos(workers[1:], proxies, table, Random(self._seed + 1))
        self._run_under_faults(seconds, workers, chaos, producer, memory)
        drain_seconds = self._drain(environment, workers)
        faults = sum((proxy.injected() for proxy in proxies), Counter[str]())
        result = audit(producer.sent, environment.items(), environment.dead_letters())
        lines, quotes = unexpected_lines(self._logs)
        return SoakResult(
            result, len(producer.sent), figures, faults, table.restarts, memory.figures(),
            drain_seconds, lines, quotes,
        )  # fmt: skip

    def _run_under_faults(
        self,
        seconds: float,
        workers: list[Worker],
        chaos: Chaos,
        producer: Producer,
        memory: Memory,
    ) -> None:
        end = time.monotonic() + seconds
        printed_at = self._began_at = time.monotonic()
        producer.start()
        try:
            while (now := time.monotonic()) < end and producer.failure is None:
                chaos.step()
                for worker in workers:
                    worker.maintain()
                memory.sample(workers[0].process_id)
                if now - printed_at >= _PROGRESS_SECONDS:
                    printed_at = now
                    self._print_progress(len(producer.sent), workers[0].figures, memory)
                time.sleep(_STEP_SECONDS)
        finally:
            chaos.stop()
            producer.stop()

    def _print_progress(self, sent: int, figures: Counter[str], memory: Memory) -> None:
        passed = time.monotonic() - self._began_at
        what = ", ".join(f"{name} {count}" for name, count in sorted(figures.items()))
        rss = memory.samples[-1][1] if memory.samples else 0
        _print(f"{passed:5.0f} s: sent {sent}, {what}, rss {rss} KiB")

    def _drain(self, environment: SoakEnvironment, workers: list[Worker]) -> float:
        """Wait until the queue stays empty, then stop the workers; return the seconds."""
        began_at = time.monotonic()
        empty_since: list[float] = []

        def is_quiet() -> bool:
            for worker in workers:
                worker.maintain()
            now = time.monotonic()
            if not environment.is_up() or environment.depth():
                empty_since.clear()
                return False
            empty_since.append(now)
            return now - empty_since[0] >= _EMPTY_SECONDS

        until(is_quiet, _DRAIN_SECONDS, "the queue is empty")
        for worker in workers:
            worker.end()
        return time.monotonic() - began_at


def report(soak: SoakResult, seed: int) -> tuple[dict[str, Any], bool]:
    """Return the figures and whether the soak test passed; print the problems to stderr."""
    result, workers = soak.result, soak.workers
    for line in [*result.lost, *result.duplicated, *result.altered][:_MAX_QUOTED]:
        _print(line)
    for quote in soak.quotes:
        _print(quote)
    ends = {name: count for name, count in sorted(workers.items()) if " with " in name}
    figures = {
        "seed": seed,
        "sent": soak.sent,
        "recorded": result.recorded,
        "duplicates": result.duplicates,
        "dead_lettered": dict(sorted(result.reasons.items())),
        "repeated_dead_letters": result.repeated_dead_letters,
        "lost": len(result.lost),
        "duplicated": len(result.duplicated),
        "altered": len(result.altered),
        "kills": workers["killed"] + workers["children killed"] + workers["terminated"],
        "sigkills": workers["killed"],
        "sigkills_of_children": workers["children killed"],
        "sigterms": workers["terminated"],
        "stops": workers["stops"],
        "overran": workers["overran"],
        "ends": ends,
        "faults": soak.faults.total(),
        "faults_by_kind": dict(sorted(soak.faults.items())),
        "restarts": soak.restarts,
        "drain_seconds": round(soak.drain_seconds, 1),
        **soak.memory,
        "unexpected_lines": dict(soak.unexpected_lines),
    }
    return figures, result.is_ok and not soak.unexpected_lines


def _print(text: str) -> None:
    print(f"soak: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress
