"""The stages joined: from the queue to a settled delivery, and the drain in that order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from worker.aws.access import Operation
from worker.aws.sqs import MessageQueue, dead_letter_probes, source_probes
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.domain.message import Outcome, ReceivedMessage
from worker.errors import FutureError, GaveUpError, RefusedError
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.breaker import Breaker
from worker.pipeline.health import Health
from worker.pipeline.lease import Lease, Leases
from worker.pipeline.metrics import Metrics
from worker.pipeline.receive import Receiver
from worker.pipeline.record import AcceptanceStore, Recorder
from worker.pipeline.settle import Settler
from worker.pipeline.slots import Slot, Slots
from worker.pipeline.sqs_clock import SQSClock
from worker.pipeline.unsent import UnsentDeadLetters
from worker.runtime.redaction import error_text
from worker.settings import Settings

_log: Final = structlog.get_logger()
_MIB: Final = 1_048_576
_WATCH_SECONDS: Final = 5.0

Carry = Callable[[ReceivedMessage, Lease, Slot], Coroutine[Any, Any, Outcome]]


class Tracing(Protocol):
    """What follows messages through the stages, where that is asked for.

    Each gives something that does the same as what it is given, and is followed.
    """

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Follow the calls to a queue."""

    def handler(self, process: Carry, source: MessageQueue) -> Carry:
        """Follow each message of a queue from its receipt to its fate."""


def _now() -> datetime:
    return datetime.now(UTC)


class Flow:
    """Carry every message from the queue to its fate, each in a task of its own.

    Args:
        source: the queue of acceptances.
        dead_letters: the queue of what can never be recorded.
        ledger: the repository.
        settings: bounds and times.
        metrics: where everything is counted.
        now: gives the present time, aware.
        stopping: set when the flow is to drain.
        tracing: follows every message; without it nothing is done for that.
    """

    def __init__(  # noqa: PLR0913 - wiring, named at its one call
        self,
        source: MessageQueue,
        dead_letters: MessageQueue,
        store: AcceptanceStore,
        settings: Settings,
        *,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = _now,
        stopping: asyncio.Event | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        # Before they are traced: a probe belongs to no message.
        probes = [*source_probes(source), *dead_letter_probes(dead_letters), *store.probes()]
        self._carrying: Carry = self._carry
        if tracing is not None:
            source, dead_letters = tracing.queue(source), tracing.queue(dead_letters)
            self._carrying = tracing.handler(self._carry, source)
        self.metrics = metrics or Metrics()
        self.slots = Slots(settings.slots, settings.held_mib * _MIB, source.message_max_bytes)
        self.stopping = stopping or asyncio.Event()
        self._settings = settings
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self.sqs_clock = SQSClock(now, self._clock, settings.clock_skew_seconds)
        self._log = _log.bind()  # once: a line that is not logged costs nothing then
        self._failure: GaveUpError | None = None
        self._tasks: dict[Lease, asyncio.Task[Outcome]] = {}
        self._deciding: dict[Lease, asyncio.Task[Outcome]] = {}
        self._out_of_time = False
        breaker = Breaker()
        self.access = AccessWatch(settings.give_up_seconds, self.give_up, probes, self._clock)
        store.observe(self.access)
        self._unsent = UnsentDeadLetters(self._clock)
        self.health = Health(
            self.metrics.accounting,
            self.slots,
            breaker,
            (self.access, self._unsent, self.sqs_clock),
            self.stopping,
            progress_seconds=_progress_seconds(settings),
            clock=self._clock,
        )
        self.leases = Leases(
            self.access.observed(Operation.VISIBILITY, source.change_visibility),
            settings.visibility_timeout_seconds,
            concurrency=settings.settle_concurrency,
            events=self.metrics.events,
        )
        self._receiver = self._make_receiver(source, breaker)
        self._recorder = self._make_recorder(store, breaker)
        self._settler = self._make_settler(source, dead_letters)

    def _make_receiver(self, source: MessageQueue, breaker: Breaker) -> Receiver:
        return Receiver(
            source,
            self.slots,
            self._accept,
            breaker=breaker,
            access=self.access,
            health=self.health,
            stopping=self.stopping,
            concurrency=self._settings.poll_concurrency,
            wait_seconds=self._settings.wait_seconds,
            visibility_timeout_seconds=self._settings.visibility_timeout_seconds,
            events=self.metrics.events,
        )

    def _make_settler(self, source: MessageQueue, dead_letters: MessageQueue) -> Settler:
        return Settler(
            source,
            dead_letters,
            concurrency=self._settings.settle_concurrency,
            undeliverable_seconds=min(60.0, self._settings.backoff_cap_seconds),
            redrive_seconds=self._settings.backoff_cap_seconds,
            max_attempts=self._settings.max_attempts,
            now=self._now,
            access=self.access,
            health=self.health,
            stopping=self.stopping,
            unsent=self._unsent,
            events=self.metrics.events,
        )

    def _make_recorder(self, store: AcceptanceStore, breaker: Breaker) -> Recorder:
        return Recorder(
            store,
            self._settings,
            breaker=breaker,
            health=self.health,
            stopping=self.stopping,
            now=self.sqs_clock.now,
            events=self.metrics.events,
        )

    def give_up(self, error: GaveUpError) -> None:
        """Drain, and end `run` with that error."""
        if self._failure is None:
            self._failure = error
            self.stopping.set()

    async def run(self) -> None:
        """Carry messages until `stopping` is set, then drain.

        The drain lets polls under way end, finishes what was begun, hands back what was not, and
        hands back what is unfinished after `drain_timeout_seconds`. Cancelled, it ends at once:
        what was held reappears in the queue when its visibility ends.

        Raises:
            GaveUpError: access was denied, or the queue or table gone, for too long; or the work
                stood still, or a stage failed.
        """
        loop = asyncio.get_running_loop()
        leases = loop.create_task(self.leases.run(), name="leases")
        watch = loop.create_task(self._watch(), name="watch")
        access = loop.create_task(self.access.run(), name="access")
        try:
            async with asyncio.TaskGroup() as self._deliveries:
                receiver = loop.create_task(self._receiver.run(), name="receiver")
                try:
                    await self._until_stopping(receiver, leases, watch, access)
                    await self._drain(receiver)
                finally:
                    await _cancelled(receiver)
        finally:
            await _cancelled(access)
            await _cancelled(watch)
            await _cancelled(leases)
            await self._settler.aclose()
        if self._failure is not None:
            raise self._failure

    async def _until_stopping(self, *supervised: asyncio.Task[None]) -> None:
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({stop, *supervised}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for task in supervised:
            if not task.done() or task.cancelled():
                continue
            error = task.exception()
            if error or not self.stopping.is_set():
                self.give_up(GaveUpError(f"the stage {task.get_name()} failed: {_why(error)}"))
                _log.error("a stage failed", stage=task.get_name(), exc_info=error)

    async def _watch(self) -> None:
        """Tell when it becomes ready or unready, and end it when nothing moves any more."""
        was_ready = True  # it is about to be: the first poll has begun
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if reasons := self.health.why_not_live():
                self.give_up(GaveUpError("; ".join(reasons)))
                return
            reasons = self.health.why_not_ready()
            if bool(reasons) is was_ready and not self.stopping.is_set():
                was_ready = not reasons
                if was_ready:
                    _log.info("ready again")
                else:
                    _log.warning("not ready", why=reasons)

    async def _drain(self, receiver: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.drain_timeout_seconds
        _log.info(
            "draining",
            held=self.metrics.accounting.held,
            wait_seconds=self._settings.wait_seconds,
            drain_timeout_seconds=self._settings.drain_timeout_seconds,
        )
        if not receiver.done():
            await asyncio.wait({receiver}, timeout=self._settings.drain_timeout_seconds)
        tasks = set(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, deadline - loop.time()))
        self._out_of_time = True
        for task in list(self._deciding.values()):
            task.cancel()
        tasks = set(self._tasks.values())
        if tasks:
            # What remains is settling; the supervisor grants it so long.
            grace = self._settings.stop_timeout_seconds - self._settings.drain_timeout_seconds
            _, pending = await asyncio.wait(tasks, timeout=0.8 * grace)
            for task in pending:
                task.cancel()

    def _accept(self, message: ReceivedMessage, slot: Slot) -> None:
        self.sqs_clock.learn(message)
        self.metrics.accounting.open()
        lease = self.leases.hold(message)
        task = self._deliveries.create_task(self._carrying(message, lease, slot))
        self._tasks[lease] = self._deciding[lease] = task

    async def _carry(self, message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
        received_at = self._clock()
        try:
            async with slot:
                outcome = await self._settle(lease, await self._decide(message, lease))
                self.metrics.accounting.close(outcome)
        finally:
            del self._tasks[lease]
        self.metrics.settling.add(self._clock() - received_at)
        self.health.progressed()
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

    async def _settle(self, lease: Lease, outcome: Outcome) -> Outcome:
        try:
            return await self._settler.settle(lease, outcome)
        except Exception:  # noqa: BLE001 - one message must not end the others
            # Nothing is lost: the message comes back when its visibility ends.
            outcome = Outcome.returned("settling failed")
            await lease.stop()
            _log.exception("settling failed", **lease.named(outcome.kind))
            return outcome

    async def _decide(self, message: ReceivedMessage, lease: Lease) -> Outcome:
        try:
            if self.stopping.is_set():
                return Outcome.returned("stopping: not started")
            acceptance = self._read(message)
            if isinstance(acceptance, Outcome):
                return acceptance
            lease.event_id = acceptance.event_id
            if acceptance.model_extra:
                self.metrics.events["unknown_fields"] += len(acceptance.model_extra)
            return await self._recorder.record(acceptance, message)
        except RefusedError as refused:
            return Outcome.dead_lettered(refused.reason, refused.detail)
        except asyncio.CancelledError:
            if not self._out_of_time:
                raise
            self._tasks[lease].uncancel()
            return Outcome.returned("stopping: out of time")
        except Exception as error:  # noqa: BLE001 - the same
            problem = f"unexpected: {type(error).__name__}"
            outcome = self._recorder.later_or_dead(message, problem)
            _log.exception("unexpected failure", **lease.named(outcome.kind))
            return outcome
        finally:
            del self._deciding[lease]

    def _read(self, message: ReceivedMessage) -> Acceptance | Outcome:
        """Read a message; return it to the queue when only contradictory clocks can judge it.

        Raises:
            RefusedError: as `decode` has it; the future, where both clocks agree on it.
        """
        skew_seconds = self._settings.clock_skew_seconds
        passed = max(self.sqs_clock.passed, message.sent_at)
        try:
            return decode(message.body, now=passed, clock_skew_seconds=skew_seconds)
        except FutureError:
            doubt = self.sqs_clock.doubt
        clocks = [message.sent_at, self.sqs_clock.now()]
        if not doubt:
            clocks.append(self._now())
        try:
            return decode(message.body, now=max(clocks), clock_skew_seconds=skew_seconds)
        except FutureError as error:
            if not doubt:
                raise
            # The longest delay, so that a wrong clock does not use up the receives.
            self.metrics.events["clock_returns"] += 1
            delay_seconds = self._settings.backoff_cap_seconds
            return Outcome.returned(f"{error.detail}; {doubt}", delay_seconds)


def _progress_seconds(settings: Settings) -> float:
    """How long the longest single step may take: a poll, or a try with all of its calls."""
    return settings.wait_seconds + 10 * settings.aws.call_timeout_seconds + 30.0


def _why(error: BaseException | None) -> str:
    return "it ended" if error is None else error_text(error)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
