"""Processing: one message from top to bottom."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.errors import RefusedError
from worker.pipeline.decode import Decoder
from worker.pipeline.in_flight import InFlight
from worker.pipeline.lease import Lease
from worker.pipeline.metrics import Metrics
from worker.pipeline.record import Recorder
from worker.pipeline.service_state import ServiceState
from worker.pipeline.settle import Settler
from worker.pipeline.slots import Slot

_log: Final = structlog.get_logger()


class Processor:
    """Decode, record and settle a message; each message is processed by a task of its own.

    Args:
        decoder: Decodes the body.
        recorder: Records the acceptance and decides the outcome.
        settler: Deletes, returns or dead-letters the message.
        in_flight: Tasks of the messages in flight.
        state: State of the service.
        metrics: Message accounting and durations.
    """

    def __init__(
        self,
        decoder: Decoder,
        recorder: Recorder,
        settler: Settler,
        in_flight: InFlight,
        state: ServiceState,
        metrics: Metrics,
    ) -> None:
        self._decoder = decoder
        self._recorder = recorder
        self._settler = settler
        self._in_flight = in_flight
        self._state = state
        self._metrics = metrics
        self._clock = asyncio.get_running_loop().time
        self._log = _log.bind()  # bound once: a line below the log level then costs nothing

    async def process(self, message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
        """Process a message in its slot, under its lease, and return the outcome."""
        received_at = self._clock()
        try:
            async with slot:
                outcome = await self._decide(message, lease)
                outcome = await self._settler.settle(lease, outcome)
                self._metrics.accounting.close(outcome)
        finally:
            self._in_flight.finished(lease)
        self._metrics.settling.add(self._clock() - received_at)
        self._state.health.progressed()
        self._log.debug(
            "settled",
            message_id=message.message_id,
            event_id=lease.event_id,
            outcome=outcome.kind.value,
            reason=outcome.reason,
            detail=outcome.detail,
            receive_count=message.receive_count,
        )
        return outcome

    async def _decide(self, message: ReceivedMessage, lease: Lease) -> Outcome:
        try:
            if self._state.stopping.is_set():
                return Outcome.returned("stopping: not started")
            acceptance = self._decoder.decode(message)
            if isinstance(acceptance, Outcome):
                return acceptance
            lease.event_id = acceptance.event_id
            return await self._recorder.record(acceptance, message)
        except RefusedError as refused:
            return Outcome.dead_lettered(refused.reason, refused.detail)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._in_flight.out_of_time or task is None:
                raise
            task.uncancel()
            return Outcome.returned("stopping: out of time")
        except Exception as error:  # noqa: BLE001 - must not affect other messages
            problem = f"unexpected: {type(error).__name__}"
            outcome = self._recorder.retry_or_dead_letter(message, problem)
            _log.exception("unexpected failure", **lease.log_fields(outcome.kind))
            return outcome
        finally:
            self._in_flight.decided(lease)
