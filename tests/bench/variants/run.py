"""A run of one variant, in a separate process that measures itself.

`python -m tests.bench.variants.run VARIANT MESSAGES STARTED_AT`, configured by the environment,
processes that many messages and prints its figures as one JSON object. `STARTED_AT` is the
monotonic time at which the process was started.
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

from tests.bench.variants.implementations import VARIANTS, receive_forever
from worker.domain.outcome import OutcomeKind
from worker.errors import BenchError, GaveUpError
from worker.pipeline.assembly import Pipeline
from worker.pipeline.metrics import Durations
from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.service import serve
from worker.settings import load

_WARM_UP_DIVISOR: Final = 5
# Simpler variants receive ten messages at a time, so the warm-up is a multiple of ten.
_BATCH_SIZE: Final = 10
_CHECK_SECONDS: Final = 0.002
# One of two processes may get more than half; the other is done after this long without messages.
_QUIET_SECONDS: Final = 4.0
_BYTES_PER_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Figures of one process; only the last four include its warm-up.

    Attributes:
        messages: Messages settled during the measurement.
        seconds: Wall time.
        calls: Calls by operation.
        connections: TCP connections opened by the process.
        start_seconds: Time from the start of the process to its first poll.
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
    """Reads clocks and counters at the end of the warm-up and at the end of the work.

    Args:
        messages: Number of messages to process.
        started_at: Monotonic time at which the process was started.

    Attributes:
        durations: Seconds from receipt to settlement.
        connections: Connections opened so far.
    """

    def __init__(self, messages: int, started_at: float) -> None:
        self.durations = Durations()
        self.connections = 0
        self._messages = messages
        self._warm_messages = -(-messages // _WARM_UP_DIVISOR // _BATCH_SIZE) * _BATCH_SIZE
        self._started_at = started_at
        self._first_poll: _Reading | None = None
        self._first: _Reading | None = None
        self._last: _Reading | None = None
        # Every library opens a connection with `socket.connect`.
        sys.addaudithook(self._count_connection)

    def _count_connection(self, event: str, _: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self.connections += 1

    def note_poll(self) -> None:
        """Note that a poll has started."""
        if self._first_poll is None:
            self._first_poll = _read(0, {})

    def note_progress(self, settled: int, calls: Mapping[str, int]) -> bool:
        """Note the progress.

        Returns:
            Whether all messages are settled.
        """
        if self._last is None or settled > self._last.settled:
            self._last = _read(settled, calls)
        if self._first is None and self._warm_messages <= settled < self._messages:
            self._first = self._last
            self.durations.clear()
        return settled >= self._messages

    @property
    def is_quiet(self) -> bool:
        """Whether nothing was settled for so long that no more messages are expected."""
        if self._last is None:
            return False
        limit_seconds = _QUIET_SECONDS if self._last.settled else 5 * _QUIET_SECONDS
        return time.monotonic() - self._last.at > limit_seconds

    def figures(self, *, tls: bool) -> RunFigures:
        """Return the figures of a finished run.

        Raises:
            BenchError: The process never polled.
        """
        first_poll, first, last = self._first_poll, self._first, self._last
        if first_poll is None or last is None:
            raise BenchError("ended before its first poll")
        if first is None or last.settled <= first.settled:
            first = first_poll  # too few messages, or all settled at once: include the warm-up
        return RunFigures(
            messages=last.settled - first.settled,
            seconds=last.at - first.at,
            cpu_seconds=last.cpu_seconds - first.cpu_seconds,
            calls=dict(last.calls - first.calls),
            p50_ms=1000 * self.durations.quantile(0.5),
            p99_ms=1000 * self.durations.quantile(0.99),
            connections=self.connections,
            tls_handshakes=self.connections if tls else 0,
            rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_RSS_UNIT / 1e6,
            start_seconds=first_poll.at - self._started_at,
        )


def _read(settled: int, calls: Mapping[str, int]) -> _Reading:
    return _Reading(time.monotonic(), time.process_time(), settled, Counter(calls))


async def run_simpler_variant(variant: str, meter: Meter) -> None:
    """Process messages with one of the simpler variants."""
    calls = _count_calls(meter)
    done = asyncio.Event()
    settled = 0

    def note(seconds: float) -> None:
        nonlocal settled
        settled += 1
        meter.durations.add(seconds)
        if meter.note_progress(settled, calls):
            done.set()

    receiving = asyncio.create_task(receive_forever(variant, note))
    waiting = asyncio.create_task(done.wait())
    await asyncio.wait({receiving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if receiving.done():
        await receiving  # raise the error that ended it
    receiving.cancel()  # the queue is deleted anyway
    await asyncio.gather(receiving, return_exceptions=True)


def _count_calls(meter: Meter) -> Counter[str]:
    """Count every request of the SDK in this process by operation."""
    calls: Counter[str] = Counter()
    send = AIOHTTPSession.send

    async def count_and_send(self: AIOHTTPSession, request: Any) -> Any:
        target = request.headers["X-Amz-Target"]
        target = target.decode() if isinstance(target, bytes) else target
        calls[target.rpartition(".")[2]] += 1
        meter.note_poll()
        return await send(self, request)

    AIOHTTPSession.send = count_and_send  # type: ignore[method-assign] # this process has no other purpose
    return calls


async def run_worker(meter: Meter) -> None:
    """Process messages with the service."""

    async def watch(pipeline: Pipeline) -> None:
        meter.durations = pipeline.metrics.settling
        kinds, calls = pipeline.metrics.accounting.by_kind, pipeline.metrics.calls
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if calls["ReceiveMessage"]:
                meter.note_poll()
            if kinds[OutcomeKind.DEAD_LETTERED]:
                reasons = dict(pipeline.metrics.accounting.dead_by_reason)
                pipeline.state.give_up(GaveUpError(f"messages were dead-lettered: {reasons}"))
            done = meter.note_progress(
                kinds[OutcomeKind.RECORDED] + kinds[OutcomeKind.DUPLICATE], calls
            )
            if done or (meter.is_quiet and not pipeline.metrics.accounting.held):
                pipeline.stopping.set()
                return

    await serve(load(), background=watch)


def main() -> int:
    """Run one variant and print its figures."""
    parser = argparse.ArgumentParser(description="Measure one variant.")
    parser.add_argument("variant", choices=[*VARIANTS, "D"])
    parser.add_argument("messages", type=int)
    parser.add_argument("started_at", type=float)
    arguments = parser.parse_args()
    configure("warning", "json")
    meter = Meter(arguments.messages, arguments.started_at)
    if arguments.variant == "D":
        run_on_loop(run_worker(meter))
    else:
        asyncio.run(run_simpler_variant(arguments.variant, meter))
    tls = (load().aws.sqs_endpoint_url or "https").startswith("https")
    print(json.dumps(asdict(meter.figures(tls=tls))))  # noqa: T201 - the result
    return 0


if __name__ == "__main__":
    sys.exit(main())
