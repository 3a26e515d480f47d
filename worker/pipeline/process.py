"""Processing: one message from top to bottom, in a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.errors import GaveUpError, RefusedError
from worker.pipeline.decode import decode
from worker.pipeline.lease import Lease
from worker.pipeline.record import Recorder
from worker.pipeline.service_state import ServiceState
from worker.pipeline.settle import Settler
from worker.pipeline.slots import Slot
from worker.runtime.redaction import error_text

_log: Final = structlog.get_logger()


Process = Callable[[ReceivedMessage, Lease, Slot], Coroutine[Any, Any, Outcome]]


class InFlight:
    """Tasks that process messages, for the drain to wait for or to cut short.

    Not a task group, whose work for each task takes longer than starting it. A task fails only
    through a fault of this program; the service then drains and gives up.

    Args:
        state: State of the service.

    Attributes:
        out_of_time: Whether the drain has cancelled the tasks without an outcome.
    """

    def __init__(self, state: ServiceState) -> None:
        self.out_of_time = False
        self._state = state
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Lease, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, process: Process, lease: Lease, slot: Slot) -> None:
        """Start the task of a message."""
        self._tasks[lease] = self._loop.create_task(self._run(process, lease, slot))

    async def _run(self, process: Process, lease: Lease, slot: Slot) -> None:
        try:
            await process(lease.message, lease, slot)
        except Exception as error:  # noqa: BLE001 - reported, and ends the service
            self._state.give_up(GaveUpError(f"processing failed: {error_text(error)}"))
            _log.exception("processing failed")
        finally:
            del self._tasks[lease]

    async def wait(self, timeout_seconds: float) -> None:
        """Wait for the tasks that have been started."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_seconds)

    def cancel_undecided(self) -> None:
        """Cancel the tasks without an outcome; their messages are returned to the queue."""
        self.out_of_time = True
        for lease, task in self._tasks.items():
            if not lease.is_decided:
                task.cancel()

    async def cancel(self) -> None:
        """Cancel all tasks and wait for their ends."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Processor:
    """Processor of messages: decode, record and settle.

    Args:
        recorder: Records the acceptance and decides the outcome.
        settler: Deletes, returns or dead-letters the message.
        in_flight: Tasks of the messages in flight.
        state: State of the service.
    """

    def __init__(
        self, recorder: Recorder, settler: Settler, in_flight: InFlight, state: ServiceState
    ) -> None:
        self._recorder = recorder
        self._settler = settler
        self._in_flight = in_flight
        self._state = state
        self._log = _log.bind()  # bound once: each message needs it
        # Even a line that is not written costs the evaluation of its fields.
        self._is_debugging = self._log.is_enabled_for(logging.DEBUG)

    async def process(self, message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
        """Process a message in its slot, under its lease, and return the outcome."""
        received_at = self._state.clock()
        try:
            outcome = await self._decide(message, lease)
            outcome = await self._settler.settle(lease, outcome)
            self._state.metrics.accounting.close(outcome)
        finally:
            slot.release()
        settled_at = self._state.clock()
        self._state.metrics.settling.add(settled_at - received_at)
        self._state.progressed(settled_at)
        if self._is_debugging:
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
            acceptance = decode(message, self._state)
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
            lease.is_decided = True
