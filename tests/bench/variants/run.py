"""A run of one variant, in a process of its own that measures itself.

`python -m tests.bench.variants.run VARIANT MESSAGES BEGAN_AT`, configured by the environment,
processes that many messages and prints its figures as one JSON object. `BEGAN_AT` is the monotonic
time at which the process was started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiobotocore.httpsession import AIOHTTPSession

from tests.bench.variants.implementations import WAYS, receive_on
from worker.domain.outcome import OutcomeKind
from worker.errors import BenchError, GaveUpError
from worker.pipeline.assembly import Pipeline
from worker.pipeline.metrics import Durations
from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.service import serve
from worker.settings import load

_WARM_UP_SHARE: Final = 5
# The plain ways take ten at a time: a warm-up that ends between two tens counts what is done.
_TOGETHER: Final = 10
_LOOK_SECONDS: Final = 0.002
# Of two processes one may get more than its half: the other one's work is done when it has waited.
_QUIET_SECONDS: Final = 4.0
_BYTES_PER_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Trial:
    """What one process did, its warm-up left out of everything but the last five figures.

    Attributes:
        messages: settled while it was measured.
        seconds: of wall time.
        calls: by operation.
        connections: opened by the process, TCP.
        start_seconds: from the start of the process to its first poll.
    """

    messages: int
    seconds: float
    cpu_seconds: float
    calls: dict[str, int]
    p50_ms: float
    p99_ms: float
    connections: int
    tls_handshakes: int
    rss_mb: float
    start_seconds: float


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    cpu_seconds: float
    settled: int
    calls: Counter[str]


class Meter:
    """Read clocks and counters when the warm-up ends, and when the work is done.

    Args:
        messages: how many there are.
        began_at: when the process was started, monotonic.

    Attributes:
        durations: from receipt to settlement.
        connections: opened so far.
    """

    def __init__(self, messages: int, began_at: float) -> None:
        self.durations = Durations()
        self.connections = 0
        self._messages = messages
        self._warm_messages = -(-messages // _WARM_UP_SHARE // _TOGETHER) * _TOGETHER
        self._began_at = began_at
        self._begun: _Reading | None = None
        self._first: _Reading | None = None
        self._last: _Reading | None = None
        # Whatever the library, each connection is made by a socket that connects.
        sys.addaudithook(self._count_connection)

    def _count_connection(self, event: str, _: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self.connections += 1

    def polled(self) -> None:
        """Take in that a poll has begun."""
        if self._begun is None:
            self._begun = _read(0, {})

    def note(self, settled: int, calls: Mapping[str, int]) -> bool:
        """Take in how far it is.

        Returns:
            Whether all is done.
        """
        if self._last is None or settled > self._last.settled:
            self._last = _read(settled, calls)
        if self._first is None and self._warm_messages <= settled < self._messages:
            self._first = self._last
            self.durations.clear()
        return settled >= self._messages

    @property
    def is_quiet(self) -> bool:
        """Say whether nothing was settled for so long that no more is to be expected."""
        if self._last is None:
            return False
        patience_seconds = _QUIET_SECONDS if self._last.settled else 5 * _QUIET_SECONDS
        return time.monotonic() - self._last.at > patience_seconds

    def trial(self, *, tls: bool) -> Trial:
        """Give the figures of a trial that is done.

        Raises:
            BenchError: it has not even begun.
        """
        begun, first, last = self._begun, self._first, self._last
        if begun is None or last is None:
            raise BenchError("ended before its first poll")
        if first is None or last.settled <= first.settled:
            first = begun  # it got too few, or all at once: the warm-up counts too
        return Trial(
            messages=last.settled - first.settled,
            seconds=last.at - first.at,
            cpu_seconds=last.cpu_seconds - first.cpu_seconds,
            calls=dict(last.calls - first.calls),
            p50_ms=1000 * self.durations.quantile(0.5),
            p99_ms=1000 * self.durations.quantile(0.99),
            connections=self.connections,
            tls_handshakes=self.connections if tls else 0,
            rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_RSS_UNIT / 1e6,
            start_seconds=begun.at - self._began_at,
        )


def _read(settled: int, calls: Mapping[str, int]) -> _Reading:
    return _Reading(time.monotonic(), time.process_time(), settled, Counter(calls))


async def work_plainly(way: str, meter: Meter) -> None:
    """Do the work in one of the plain ways."""
    calls = _counted_calls(meter)
    done = asyncio.Event()
    settled = 0

    def note(seconds: float) -> None:
        nonlocal settled
        settled += 1
        meter.durations.add(seconds)
        if meter.note(settled, calls):
            done.set()

    receiving = asyncio.create_task(receive_on(way, note))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait({receiving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if receiving.done():
        await receiving  # raises what ended it
    receiving.cancel()  # a poll of a queue that goes anyway
    await asyncio.gather(receiving, return_exceptions=True)


def _counted_calls(meter: Meter) -> Counter[str]:
    """Count every request of the SDK in this process, by operation."""
    calls: Counter[str] = Counter()
    send = AIOHTTPSession.send

    async def counted(self: AIOHTTPSession, request: Any) -> Any:
        target = request.headers["X-Amz-Target"]
        target = target.decode() if isinstance(target, bytes) else target
        calls[target.rpartition(".")[2]] += 1
        meter.polled()
        return await send(self, request)

    AIOHTTPSession.send = counted  # type: ignore[method-assign] # this process does nothing else
    return calls


async def work_as_shipped(meter: Meter) -> None:
    """Do the work as the service does."""

    async def watch(pipeline: Pipeline) -> None:
        meter.durations = pipeline.metrics.settling
        kinds, calls = pipeline.metrics.accounting.by_kind, pipeline.metrics.calls
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if calls["ReceiveMessage"]:
                meter.polled()
            if kinds[OutcomeKind.DEAD_LETTERED]:
                reasons = dict(pipeline.metrics.accounting.dead_by_reason)
                pipeline.give_up(GaveUpError(f"messages died: {reasons}"))
            done = meter.note(kinds[OutcomeKind.RECORDED] + kinds[OutcomeKind.DUPLICATE], calls)
            if done or (meter.is_quiet and not pipeline.metrics.accounting.held):
                pipeline.stopping.set()
                return

    await serve(load(), background=watch)


def main() -> int:
    """Carry out one trial."""
    parser = argparse.ArgumentParser(description="Measure one way to do the work.")
    parser.add_argument("way", choices=[*WAYS, "D"])
    parser.add_argument("messages", type=int)
    parser.add_argument("began_at", type=float)
    chosen = parser.parse_args()
    configure("warning", "json")
    meter = Meter(chosen.messages, chosen.began_at)
    if chosen.way == "D":
        run_on_loop(work_as_shipped(meter))
    else:
        asyncio.run(work_plainly(chosen.way, meter))
    tls = (load().aws.sqs_endpoint_url or "https").startswith("https")
    print(json.dumps(asdict(meter.trial(tls=tls))))  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
