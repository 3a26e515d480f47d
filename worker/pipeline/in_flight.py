"""Tasks of the messages in flight, one for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.pipeline.lease import Lease, Leases
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slot
from worker.pipeline.sqs_clock import SQSClock

Process = Callable[[ReceivedMessage, Lease, Slot], Coroutine[Any, Any, Outcome]]


class InFlight:
    """Tasks that process messages, for the drain to wait for or to cut short.

    An asynchronous context manager: like a task group, it waits for its tasks at the end.

    Attributes:
        out_of_time: Whether the drain has cancelled the tasks without an outcome.
    """

    def __init__(self) -> None:
        self.out_of_time = False
        self._group = asyncio.TaskGroup()
        self._tasks: dict[Lease, asyncio.Task[Outcome]] = {}
        self._undecided: dict[Lease, asyncio.Task[Outcome]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._group.__aexit__(kind, error, traceback)

    def start(self, lease: Lease, processing: Coroutine[Any, Any, Outcome]) -> None:
        """Start the task of a message."""
        self._tasks[lease] = self._undecided[lease] = self._group.create_task(processing)

    def decided(self, lease: Lease) -> None:
        """Note that a message has an outcome: from now on it is being settled."""
        del self._undecided[lease]

    def finished(self, lease: Lease) -> None:
        """Note that a message is settled."""
        del self._tasks[lease]

    async def wait(self, timeout_seconds: float) -> set[asyncio.Task[Outcome]]:
        """Wait for the tasks that have been started; return those that have not finished."""
        tasks = set(self._tasks.values())
        if not tasks:
            return tasks
        _, pending = await asyncio.wait(tasks, timeout=timeout_seconds)
        return pending

    def cancel_undecided(self) -> None:
        """Cancel the tasks without an outcome; their messages are returned to the queue."""
        self.out_of_time = True
        for task in list(self._undecided.values()):
            task.cancel()


class Dispatcher:
    """Start of a task for each received message.

    Args:
        process: Processes one message.
        in_flight: Where the tasks are kept.
        leases: Leases of the messages.
        sqs_clock: Estimate of SQS time, corrected by each message.
        accounting: Message accounting.
    """

    def __init__(
        self,
        process: Process,
        in_flight: InFlight,
        leases: Leases,
        sqs_clock: SQSClock,
        accounting: Accounting,
    ) -> None:
        self._process = process
        self._in_flight = in_flight
        self._leases = leases
        self._sqs_clock = sqs_clock
        self._accounting = accounting

    def dispatch(self, message: ReceivedMessage, slot: Slot) -> None:
        """Start a task that processes a message in its slot."""
        self._sqs_clock.learn(message)
        self._accounting.open()
        lease = self._leases.hold(message)
        self._in_flight.start(lease, self._process(message, lease, slot))
