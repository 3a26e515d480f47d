"""The stage that tells SQS the fate of a delivery."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import structlog

from worker.aws.access import Operation
from worker.aws.sqs import MessageQueue
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import (
    BATCH_MAX_ENTRIES,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    ReceivedMessage,
)
from worker.domain.outcome import Outcome, OutcomeKind
from worker.errors import (
    AWSAccessError,
    AWSError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    Reason,
)
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.health import Health
from worker.pipeline.lease import Lease
from worker.pipeline.unsent import UnsentDeadLetters
from worker.runtime.backoff import full_jitter
from worker.runtime.batcher import Batcher
from worker.runtime.stopping import unless_stopped

_log: Final = structlog.get_logger()
EntryT = TypeVar("EntryT")

_ATTEMPTS: Final = 4
_RETRY_BASE_SECONDS: Final = 0.2
_RETRY_CAP_SECONDS: Final = 2.0
_ACCESS_RETRY_SECONDS: Final = 30.0
# Message ids, of some 40 bytes each.
_REMEMBERED_DEAD_LETTERS: Final = 20_000


class Settler:
    """Delete, hand back or dead-letter, in batches, each entry on its own terms.

    While AWS denies the delete or the dead letter, the message is held and tried again for as long
    as its lease can be kept. A message that was dead-lettered and comes back, because its delete
    failed or was lost, is only deleted.

    Args:
        source: the queue that deliveries came from.
        dead_letters: the queue of what can never be recorded.
        concurrency: batches under way at most, of each kind.
        undeliverable_seconds: how long a message waits that could not be dead-lettered.
        redrive_seconds: Delay of a message that is left to the redrive policy.
        max_attempts: Receives after which that happens.
        now: gives the present time, aware.
        access: observes every batch.
        health: told of every try of a message whose settlement is denied.
        stopping: set when nothing may be held any longer.
        unsent: Keeps those that could not be sent, for readiness.
        events: where failures are counted.
    """

    def __init__(  # noqa: PLR0913 - wiring, named at its one call
        self,
        source: MessageQueue,
        dead_letters: MessageQueue,
        *,
        concurrency: int,
        undeliverable_seconds: float,
        redrive_seconds: float,
        max_attempts: int,
        now: Callable[[], datetime],
        access: AccessWatch,
        health: Health,
        stopping: asyncio.Event,
        unsent: UnsentDeadLetters,
        events: Counter[str],
    ) -> None:
        self._dead_letters = dead_letters
        self._undeliverable_seconds = undeliverable_seconds
        self._redrive_seconds = redrive_seconds
        self._max_attempts = max_attempts
        self._now = now
        self._access = access
        self._health = health
        self._stopping = stopping
        self._unsent = unsent
        self._events = events
        self._deletes = Batcher[ReceivedMessage, AWSError | None](
            access.observed(Operation.DELETE, source.delete),
            max_entries=BATCH_MAX_ENTRIES,
            concurrency=concurrency,
            key=lambda message: message.message_id,
        )
        self._returns = Batcher[tuple[ReceivedMessage, float], AWSError | None](
            access.observed(Operation.VISIBILITY, source.change_visibility),
            max_entries=BATCH_MAX_ENTRIES,
            concurrency=concurrency,
            key=lambda change: change[0].message_id,
        )
        self._letters = Batcher[OutgoingMessage, AWSError | None](
            access.observed(Operation.DEAD_LETTER, dead_letters.send),
            max_entries=BATCH_MAX_ENTRIES,
            max_bytes=MESSAGE_MAX_BYTES,
            concurrency=concurrency,
            size=lambda letter: letter.size_bytes,
        )
        self._dead_lettered: OrderedDict[str, None] = OrderedDict()

    async def settle(self, lease: Lease, outcome: Outcome) -> Outcome:
        """Carry out a fate.

        Returns:
            The fate that came to pass: a message that could not be dead-lettered is returned.
        """
        if outcome.kind is OutcomeKind.DEAD_LETTERED:
            return await self._dead_letter(lease, outcome)
        if outcome.kind is OutcomeKind.RETURNED:
            await self._hand_back(lease, outcome.delay_seconds)
        else:
            await self._delete(lease, outcome.kind)
        return outcome

    async def _dead_letter(self, lease: Lease, outcome: Outcome) -> Outcome:
        assert outcome.reason is not None  # noqa: S101 - a dead outcome has one
        if lease.lost:
            return Outcome.returned("lease lost before it was dead-lettered")
        if lease.message.message_id in self._dead_lettered:
            # Counted as a duplicate: there is one dead letter, and it was counted.
            self._events["dead_letter_repeats"] += 1
            await self._delete(lease, OutcomeKind.DUPLICATE)
            return Outcome(OutcomeKind.DUPLICATE, detail="dead-lettered before; deleted only")
        letter = to_dead_letter(
            lease.message,
            outcome.reason,
            outcome.detail,
            dead_at=self._now(),
            max_bytes=self._dead_letters.message_max_bytes,
        )
        try:
            await self._send(letter, lease, may_hold=not self._may_pass(lease, outcome))
        except AWSError as error:
            return await self._keep(lease, outcome, error)
        self._remember(lease.message.message_id)
        self._unsent.sent(lease.message.message_id)
        # Only what is safely in the dead-letter queue is deleted here.
        await self._delete(lease, outcome.kind)
        return outcome

    async def _keep(self, lease: Lease, dead: Outcome, error: AWSError) -> Outcome:
        """Return a message that was not dead-lettered; at last leave it to the redrive policy.

        Only a rejection says that trying again is no use. SQS moves the message when its receives
        reach maxReceiveCount, which is above `max_attempts`; without a redrive policy it returns at
        the longest delay until it expires.
        """
        message, delay = lease.message, self._undeliverable_seconds
        self._events["dead_letter_failed"] += 1
        left = isinstance(error, AWSRejectedError)
        left = left and message.receive_count >= self._max_attempts
        if left:
            delay = self._redrive_seconds
            self._events["left_to_redrive"] += 1
        self._unsent.failed(message.message_id, error, delay)
        await self._hand_back(lease, delay)
        log = _log.warning if left else _log.debug
        log(
            "message left to the redrive policy" if left else "dead letter not sent",
            **lease.named(OutcomeKind.RETURNED),
            reason=dead.reason,
            detail=dead.detail,
            receive_count=message.receive_count,
            error=str(error),
        )
        return Outcome.returned(f"could not be dead-lettered: {error}")

    def _may_pass(self, lease: Lease, outcome: Outcome) -> bool:
        """Return whether a later receive may find otherwise: a version may be published since."""
        attempts_left = lease.message.receive_count < self._max_attempts
        return outcome.reason is Reason.UNKNOWN_POLICY and attempts_left

    async def _send(self, letter: OutgoingMessage, lease: Lease, *, may_hold: bool) -> None:
        while True:
            try:
                await self._patiently(self._letters, letter, lease)
            except AWSAccessError:
                if not may_hold or not await self._access_may_return(lease):
                    raise
            else:
                return

    def _remember(self, message_id: str) -> None:
        self._dead_lettered[message_id] = None
        if len(self._dead_lettered) > _REMEMBERED_DEAD_LETTERS:
            self._dead_lettered.popitem(last=False)

    async def _delete(self, lease: Lease, kind: OutcomeKind) -> None:
        while True:
            ours = await lease.stop()
            try:
                await self._patiently(self._deletes, lease.message, lease)
            except AWSAccessError as error:
                if ours:
                    await self._renew(lease)
                    if await self._access_may_return(lease):
                        continue
                    await lease.stop()
                self._not_deleted(lease, kind, error)
            except AWSError as error:
                self._not_deleted(lease, kind, error)
            else:
                self._events["deleted" if ours else "deleted_late"] += 1
            return

    def _not_deleted(self, lease: Lease, kind: OutcomeKind, error: AWSError) -> None:
        # It comes back, is found recorded or dead-lettered, and is deleted then.
        self._events["delete_failed"] += 1
        _log.debug("not deleted", **lease.named(kind), error=str(error))

    async def _renew(self, lease: Lease) -> None:
        """Take up a lease again whose message could not be deleted."""
        asked_at = asyncio.get_running_loop().time()
        try:
            await self._returns.submit((lease.message, lease.seconds))
        except AWSError as error:
            _log.debug("lease not renewed", **lease.named(OutcomeKind.RETURNED), error=str(error))
        else:
            lease.resume(asked_at)

    async def _access_may_return(self, lease: Lease) -> bool:
        """Wait for a while; return whether the message can still be held and tried again."""
        waiting = self._access.wait_for_change(_ACCESS_RETRY_SECONDS)
        await unless_stopped(self._stopping, waiting)
        self._health.progressed()
        return not self._stopping.is_set() and lease.is_ours

    async def _hand_back(self, lease: Lease, delay_seconds: float) -> None:
        if not await lease.stop():
            return
        try:
            await self._patiently(self._returns, (lease.message, delay_seconds), lease)
        except AWSError as error:
            # It comes back all the same, when its visibility ends.
            self._events["hand_back_failed"] += 1
            _log.debug("not handed back", **lease.named(OutcomeKind.RETURNED), error=str(error))

    async def _patiently(
        self, gatherer: Batcher[EntryT, AWSError | None], entry: EntryT, lease: Lease
    ) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await gatherer.submit(entry)
            except (AWSThrottledError, AWSUnavailableError):
                delay = full_jitter(
                    attempt, base_seconds=_RETRY_BASE_SECONDS, cap_seconds=_RETRY_CAP_SECONDS
                )
                if (
                    attempt == _ATTEMPTS
                    or asyncio.get_running_loop().time() + delay >= lease.expires_at
                ):
                    raise
            else:
                return
            await asyncio.sleep(delay)

    async def aclose(self) -> None:
        """Abandon what is still in flight; messages that wait for it count as not settled."""
        for gatherer in (self._deletes, self._returns, self._letters):
            await gatherer.aclose(AWSError("not sent: the worker has stopped"))
