"""One soak: start everything, let it suffer, let it drain, and look."""

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
from tests.soak.audit import Verdict, audit
from tests.soak.chaos import Chaos
from tests.soak.logs import complaints, has_started
from tests.soak.memory import Memory
from tests.soak.place import SoakPlace, until
from tests.soak.producer import Producer
from tests.soak.servers import KeptTable, proxy_before
from tests.soak.workers import Worker, environment

_STEP_SECONDS: Final = 0.1
_PROGRESS_SECONDS: Final = 10.0
_START_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 240.0
# Nothing may be on its way between two looks: longer than a backoff or a poll.
_QUIET_SECONDS: Final = 4.0
_QUOTED: Final = 20


@dataclass
class Outcome:
    """Everything that a soak found."""

    verdict: Verdict
    sent: int
    workers: Counter[str]
    faults: Counter[str]
    restarts: int
    memory: dict[str, float | None]
    drain_seconds: float
    complaints: Counter[str] = field(default_factory=Counter)
    quotes: list[str] = field(default_factory=list)


class Soak:
    """Carry out one soak.

    Args:
        folder: for the table's data.
        logs: for what the workers tell.
        workers: how many are killed; one more is not.
        rate: messages a second.
        seed: gives messages, blows and faults; not how the machine schedules them.
    """

    def __init__(self, folder: Path, logs: Path, workers: int, rate: int, seed: int) -> None:
        self._folder = folder
        self._logs = [logs / f"worker-{number}.log" for number in range(workers + 1)]
        self._rate = rate
        self._seed = seed
        self._began_at = time.monotonic()

    def run(self, seconds: float, stack: ExitStack) -> Outcome:
        """Suffer for so long, drain, and account."""
        data = self._folder / "table"
        data.mkdir()
        table = KeptTable(data)
        stack.callback(table.end)
        sqs_url = stack.enter_context(fauxqs())
        proxies = [
            stack.enter_context(proxy_before(url, self._seed + index))
            for index, url in enumerate((sqs_url, table.url))
        ]
        place = SoakPlace(sqs_url, table.url)
        place.make()
        settings = environment(proxies[0].url, proxies[1].url, place.names)
        figures: Counter[str] = Counter()
        workers = []
        for log in self._logs:
            workers.append(Worker(settings, log, figures))
            stack.callback(workers[-1].end)
        # The first worker is the one that is never killed.
        until(lambda: has_started(self._logs[0]), _START_SECONDS, "a worker has started")
        memory = Memory()
        producer = Producer(place, self._rate, Random(self._seed))
        chaos = Chaos(workers[1:], proxies, table, Random(self._seed + 1))
        self._suffer(seconds, workers, chaos, producer, memory)
        drain_seconds = self._drain(place, workers)
        faults = sum((proxy.injected() for proxy in proxies), Counter[str]())
        verdict = audit(producer.sent, place.items(), place.letters())
        told, quotes = complaints(self._logs)
        return Outcome(
            verdict, len(producer.sent), figures, faults, table.restarts, memory.figures(),
            drain_seconds, told, quotes,
        )  # fmt: skip

    def _suffer(
        self,
        seconds: float,
        workers: list[Worker],
        chaos: Chaos,
        producer: Producer,
        memory: Memory,
    ) -> None:
        end = time.monotonic() + seconds
        told_at = self._began_at = time.monotonic()
        producer.start()
        try:
            while (now := time.monotonic()) < end and producer.failure is None:
                chaos.step()
                for worker in workers:
                    worker.tend()
                memory.sample(workers[0].process_id)
                if now - told_at >= _PROGRESS_SECONDS:
                    told_at = now
                    self._tell(len(producer.sent), workers[0].figures, memory)
                time.sleep(_STEP_SECONDS)
        finally:
            chaos.cease()
            producer.stop()

    def _tell(self, sent: int, figures: Counter[str], memory: Memory) -> None:
        passed = time.monotonic() - self._began_at
        what = ", ".join(f"{name} {count}" for name, count in sorted(figures.items()))
        rss = memory.samples[-1][1] if memory.samples else 0
        _say(f"{passed:5.0f} s: sent {sent}, {what}, rss {rss} KiB")

    def _drain(self, place: SoakPlace, workers: list[Worker]) -> float:
        """Wait until the queue stays empty, and end the workers."""
        began_at = time.monotonic()
        empty_since: list[float] = []

        def is_quiet() -> bool:
            for worker in workers:
                worker.tend()
            now = time.monotonic()
            if not place.is_up() or place.depth():
                empty_since.clear()
                return False
            empty_since.append(now)
            return now - empty_since[0] >= _QUIET_SECONDS

        until(is_quiet, _DRAIN_SECONDS, "the queue is empty")
        for worker in workers:
            worker.end()
        return time.monotonic() - began_at


def report(outcome: Outcome, seed: int) -> tuple[dict[str, Any], bool]:
    """Give the figures, and say whether all is well; tell on the screen what is not."""
    verdict, workers = outcome.verdict, outcome.workers
    for line in [*verdict.lost, *verdict.doubled, *verdict.altered][:_QUOTED]:
        _say(line)
    for quote in outcome.quotes:
        _say(quote)
    ends = {name: count for name, count in sorted(workers.items()) if " with " in name}
    figures = {
        "seed": seed,
        "sent": outcome.sent,
        "recorded": verdict.recorded,
        "duplicates": verdict.duplicates,
        "dead": dict(sorted(verdict.dead.items())),
        "dead_again": verdict.dead_again,
        "lost": len(verdict.lost),
        "doubled": len(verdict.doubled),
        "altered": len(verdict.altered),
        "kills": workers["killed"] + workers["terminated"],
        "sigkills": workers["killed"],
        "sigterms": workers["terminated"],
        "stops": workers["stops"],
        "overran": workers["overran"],
        "ends": ends,
        "faults": outcome.faults.total(),
        "faults_by_kind": dict(sorted(outcome.faults.items())),
        "restarts": outcome.restarts,
        "drain_seconds": round(outcome.drain_seconds, 1),
        **outcome.memory,
        "complaints": dict(outcome.complaints),
    }
    return figures, verdict.holds and not outcome.complaints


def _say(text: str) -> None:
    print(f"soak: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the screen
