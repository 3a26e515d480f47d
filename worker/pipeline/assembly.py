"""The pipeline: its assembly, run and drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

import structlog

from worker.aws.access import Operation
from worker.aws.sqs import MessageQueue, dead_letter_probes, source_probes
from worker.domain.message import ReceivedMessage
from worker.errors import GaveUpError
from worker.pipeline.lease import Leases
from worker.pipeline.metrics import Metrics
from worker.pipeline.process import InFlight, Process, Processor
from worker.pipeline.receive import Receiver
from worker.pipeline.record import AcceptanceStore, Recorder
from worker.pipeline.service_state import ServiceState
from worker.pipeline.settle import Settler
from worker.pipeline.slots import Slot, Slots
from worker.runtime.busy_time import busy_seconds
from worker.runtime.clock import utc_now
from worker.runtime.redaction import error_text
from worker.settings import Settings

_log: Final = structlog.get_logger()
_CHECK_SECONDS: Final = 5.0
_MIB: Final = 1_048_576


class Tracing(Protocol):
    """Tracing of messages and calls: each method returns a traced equivalent of its argument."""

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Trace the calls to a queue."""

    def handler(self, process: Process, source: MessageQueue) -> Process:
        """Trace each message of a queue from its receipt to its outcome."""


class Pipeline:
    """An assembled pipeline.

    Args:
        receiver: Polls the queue.
        in_flight: Tasks of the messages in flight.
        leases: Leases of those messages.
        settler: Closed at the end.
        state: State of the service.

    Attributes:
        metrics: Everything that is counted.
        slots: Limits on messages in flight.
        health: Liveness and readiness.
        stopping: Set it to drain the pipeline.
        is_drained: Whether the drain has ended: later signals change nothing.
    """

    def __init__(
        self,
        receiver: Receiver,
        in_flight: InFlight,
        leases: Leases,
        settler: Settler,
        state: ServiceState,
    ) -> None:
        self._receiver = receiver
        self._in_flight = in_flight
        self._settler = settler
        self.leases = leases
        self.state = self.health = state
        self.metrics = state.metrics
        self.slots = state.slots
        self.stopping = state.stopping
        self.is_drained = False

    async def run(self) -> None:
        """Process messages until `stopping` is set, then drain.

        The drain waits for the polls in flight, completes what has been started and returns the
        other messages to the queue; after `drain_timeout_seconds` it returns what has no outcome.
        On cancellation it ends at once: messages in flight become visible again at their
        visibility timeout.

        Raises:
            GaveUpError: Access was denied or the queue or table was missing for too long, there
                was no progress, or a stage failed.
        """
        loop = asyncio.get_running_loop()
        leases = loop.create_task(self.leases.run(), name="leases")
        health = loop.create_task(self._watch_health(), name="health")
        access = loop.create_task(self.state.access.run(), name="access")
        try:
            receiver = loop.create_task(self._receiver.run(), name="receiver")
            try:
                await self._until_stopping(receiver, leases, health, access)
                await self._drain(receiver)
            finally:
                await _cancel(receiver)
                await self._in_flight.cancel()
        finally:
            await _cancel(access, health, leases)
            await self._settler.aclose()
        self.is_drained = True
        if self.state.failure is not None:
            raise self.state.failure

    async def _until_stopping(self, *stages: asyncio.Task[None]) -> None:
        """Wait until the service is to stop, or a stage ends, which it must not do."""
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({stop, *stages}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for stage in stages:
            if not stage.done() or stage.cancelled():
                continue
            error = stage.exception()
            if error or not self.stopping.is_set():
                why = "ended early" if error is None else f"failed: {error_text(error)}"
                self.state.give_up(GaveUpError(f"stage {stage.get_name()} {why}"))
                _log.error("stage failed", stage=stage.get_name(), exc_info=error)

    async def _watch_health(self) -> None:
        """Log changes of readiness, and give up when the service is not live."""
        was_ready = True  # until shown otherwise: the first poll has started
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if reasons := self.state.why_not_live():
                self.state.give_up(GaveUpError("; ".join(reasons)))
                return
            reasons = self.state.why_not_ready()
            if bool(reasons) is was_ready and not self.stopping.is_set():
                was_ready = not reasons
                if was_ready:
                    _log.info("ready again")
                else:
                    _log.warning("not ready", why=reasons)

    async def _drain(self, receiver: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        drain_seconds = self.state.settings.drain_timeout_seconds
        deadline = loop.time() + drain_seconds
        _log.info(
            "drain started",
            held=len(self._in_flight),
            wait_seconds=self.state.settings.wait_seconds,
            drain_timeout_seconds=drain_seconds,
        )
        if not receiver.done():
            await asyncio.wait({receiver}, timeout=drain_seconds)
        await self._in_flight.wait(max(0.0, deadline - loop.time()))
        self._in_flight.cancel_undecided()
        # The rest is being settled; the process manager allows this much time for it.
        grace_seconds = self.state.settings.stop_timeout_seconds - drain_seconds
        await self._in_flight.wait(0.8 * grace_seconds)


async def _cancel(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def assemble(  # noqa: PLR0913 - everything that the pipeline is built from
    queues: tuple[MessageQueue, MessageQueue],
    store: AcceptanceStore,
    settings: Settings,
    *,
    metrics: Metrics,
    stopping: asyncio.Event | None = None,
    now: Callable[[], datetime] = utc_now,
    tracing: Tracing | None = None,
    busy: Callable[[], float] = busy_seconds,
) -> Pipeline:
    """Build all stages of the pipeline and connect them.

    Args:
        queues: The queue of acceptances, and the queue for what can never be recorded.
        store: The repository.
        settings: Limits and times.
        metrics: Where everything is counted.
        stopping: Set when the pipeline is to drain.
        now: Returns the current time, aware.
        tracing: Traces messages and calls to queues.
        busy: Returns the seconds in which the event loop was not idle.
    """
    # The probes are not traced: they belong to no message.
    probes = [*source_probes(queues[0]), *dead_letter_probes(queues[1]), *store.probes()]
    source, dead_letters = map(tracing.queue, queues) if tracing else queues
    held_bytes = settings.held_mib * _MIB
    slots = Slots(settings.slots, held_bytes, source.message_max_bytes, busy_seconds=busy)
    stopping = stopping or asyncio.Event()
    state = ServiceState(settings, metrics, slots, probes=probes, stopping=stopping, now=now)
    store.observe(state.access)
    leases = _leases(source, state)
    in_flight = InFlight(state)
    settler = Settler(source, dead_letters, state)
    process: Process = Processor(Recorder(store, state), settler, in_flight, state).process
    if tracing is not None:
        process = tracing.handler(process, source)

    def accept(message: ReceivedMessage, slot: Slot) -> None:
        metrics.accounting.open()
        in_flight.start(process, leases.hold(message), slot)

    return Pipeline(Receiver(source, accept, state), in_flight, leases, settler, state)


def _leases(source: MessageQueue, state: ServiceState) -> Leases:
    return Leases(
        state.access.observed(Operation.VISIBILITY, source.change_visibility),
        state.settings.visibility_timeout_seconds,
        concurrency=state.settings.settle_concurrency,
        events=state.metrics.events,
    )
