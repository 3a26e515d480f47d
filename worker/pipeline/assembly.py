"""Wiring of the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from worker.aws.access import Operation, Probe
from worker.aws.sqs import MessageQueue, dead_letter_probes, source_probes
from worker.errors import GaveUpError
from worker.pipeline.decode import Decoder
from worker.pipeline.health import Health
from worker.pipeline.in_flight import Dispatcher, InFlight, Process
from worker.pipeline.lease import Leases
from worker.pipeline.metrics import Metrics
from worker.pipeline.process import Processor
from worker.pipeline.receive import Receiver
from worker.pipeline.record import AcceptanceStore, Recorder
from worker.pipeline.service_state import ServiceState
from worker.pipeline.settle import Settler
from worker.pipeline.slots import Slots
from worker.pipeline.sqs_clock import SQSClock
from worker.pipeline.supervisor import Supervisor
from worker.pipeline.unsent import UnsentDeadLetters
from worker.runtime.clock import utc_now
from worker.settings import Settings

_MIB: Final = 1_048_576


class Tracing(Protocol):
    """Tracing of messages and calls: each method returns a traced equivalent of its argument."""

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Trace the calls to a queue."""

    def handler(self, process: Process, source: MessageQueue) -> Process:
        """Trace each message of a queue from its receipt to its outcome."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """An assembled pipeline.

    Attributes:
        supervisor: Runs the stages.
        state: Breaker, access watch, health and the stop request.
        metrics: Everything that is counted.
        slots: Limits on messages in flight.
        leases: Leases of the messages in flight.
    """

    supervisor: Supervisor
    state: ServiceState
    metrics: Metrics
    slots: Slots
    leases: Leases

    @property
    def health(self) -> Health:
        """Liveness and readiness."""
        return self.state.health

    @property
    def stopping(self) -> asyncio.Event:
        """Set it to drain the pipeline."""
        return self.state.stopping

    def give_up(self, error: GaveUpError) -> None:
        """Drain, then end `run` with this error."""
        self.state.give_up(error)

    async def run(self) -> None:
        """Process messages until `stopping` is set, then drain; see `Supervisor.run`."""
        await self.supervisor.run()


def assemble(
    queues: tuple[MessageQueue, MessageQueue],
    store: AcceptanceStore,
    settings: Settings,
    *,
    metrics: Metrics,
    stopping: asyncio.Event | None = None,
    now: Callable[[], datetime] = utc_now,
    tracing: Tracing | None = None,
) -> Pipeline:
    """Build all stages of the pipeline.

    Args:
        queues: The queue of acceptances, and the queue for what can never be recorded.
        store: The repository.
        settings: Limits and times.
        metrics: Where everything is counted.
        stopping: Set when the pipeline is to drain.
        now: Returns the current time, aware.
        tracing: Traces messages and calls to queues.
    """
    source, dead_letters = map(tracing.queue, queues) if tracing else queues
    clock = asyncio.get_running_loop().time
    slots = Slots(settings.slots, settings.held_mib * _MIB, source.message_max_bytes)
    sqs_clock = SQSClock(now, clock, settings.clock_skew_seconds)
    unsent = UnsentDeadLetters(clock)
    state = ServiceState(
        settings,
        metrics.accounting,
        slots,
        probes=_probes(*queues, store),  # not traced: they belong to no message
        readiness=(unsent, sqs_clock),
        stopping=stopping or asyncio.Event(),
        clock=clock,
    )
    store.observe(state.access)
    leases = _leases(source, settings, state, metrics)
    in_flight = InFlight()
    decoder = Decoder(settings, sqs_clock, now, metrics.events)
    recorder = Recorder(store, settings, state, sqs_clock.now, metrics.events)
    settler = Settler(source, dead_letters, settings, state, unsent, now, metrics.events)
    process: Process = Processor(decoder, recorder, settler, in_flight, state, metrics).process
    if tracing is not None:
        process = tracing.handler(process, source)
    dispatcher = Dispatcher(process, in_flight, leases, sqs_clock, metrics.accounting)
    receiver = Receiver(source, slots, dispatcher.dispatch, state, settings, metrics.events)
    supervisor = Supervisor(receiver, in_flight, leases, settler, state, settings)
    return Pipeline(supervisor, state, metrics, slots, leases)


def _probes(
    source: MessageQueue, dead_letters: MessageQueue, store: AcceptanceStore
) -> list[Probe]:
    return [*source_probes(source), *dead_letter_probes(dead_letters), *store.probes()]


def _leases(
    source: MessageQueue, settings: Settings, state: ServiceState, metrics: Metrics
) -> Leases:
    return Leases(
        state.access.observed(Operation.VISIBILITY, source.change_visibility),
        settings.visibility_timeout_seconds,
        concurrency=settings.settle_concurrency,
        events=metrics.events,
    )
