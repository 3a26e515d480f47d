"""Settling: an outcome to SQS."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

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
from worker.errors import AWSAccessError, AWSError, AWSRejectedError, Reason
from worker.pipeline.lease import Lease
from worker.pipeline.service_state import ServiceState
from worker.runtime.batcher import Batcher
from worker.runtime.retry import RetryPolicy, retry
from worker.runtime.stopping import unless_stopped

_log: Final = structlog.get_logger()

SETTLE_RETRIES: Final = RetryPolicy(attempts=4, base_seconds=0.2, cap_seconds=2.0)
ACCESS_RETRY_SECONDS: Final = 30.0
# Delay of a message whose dead letter could not be sent.
UNSENT_DELAY_MAX_SECONDS: Final = 60.0
# Message ids of some 40 bytes each.
_DEAD_LETTERED_MAX: Final = 20_000


class Settler:
    """Batched deletes, returns and dead letters, with retries of the entries that failed.

    While AWS denies the delete or the dead letter, the message stays in flight and is retried as
    long as its lease can be extended. A message that was dead-lettered but not deleted, and is
    received again, is only deleted.

    Args:
        source: The queue that messages are received from.
        dead_letters: The queue for messages that can never be recorded.
        state: Observes every batch; ends retries when the service stops.
    """

    def __init__(
        self, source: MessageQueue, dead_letters: MessageQueue, state: ServiceState
    ) -> None:
        self._dead_letters = dead_letters
        self._state = state
        self._settings = state.settings
        self._access = state.access
        self._events = state.metrics.events
        concurrency = state.settings.settle_concurrency
        self._deletes = Batcher[ReceivedMessage, AWSError | None](
            state.access.observed(Operation.DELETE, source.delete),
            max_entries=BATCH_MAX_ENTRIES,
            concurrency=concurrency,
            key=lambda message: message.message_id,
        )
        self._returns = Batcher[tuple[ReceivedMessage, float], AWSError | None](
            state.access.observed(Operation.VISIBILITY, source.change_visibility),
            max_entries=BATCH_MAX_ENTRIES,
            concurrency=concurrency,
            key=lambda change: change[0].message_id,
        )
        self._sends = Batcher[OutgoingMessage, AWSError | None](
            state.access.observed(Operation.DEAD_LETTER, dead_letters.send),
            max_entries=BATCH_MAX_ENTRIES,
            max_bytes=MESSAGE_MAX_BYTES,
            concurrency=concurrency,
            size=lambda letter: letter.size_bytes,
        )
        self._dead_lettered: OrderedDict[str, None] = OrderedDict()
        self._sending: dict[str, asyncio.Event] = {}

    async def settle(self, lease: Lease, outcome: Outcome) -> Outcome:
        """Delete, return or dead-letter a message.

        Returns:
            The final outcome: a message that could not be dead-lettered is returned.
        """
        try:
            if outcome.kind is OutcomeKind.DEAD_LETTERED:
                return await self._dead_letter(lease, outcome)
            if outcome.kind is OutcomeKind.RETURNED:
                await self._return(lease, outcome.delay_seconds)
            else:
                await self._delete(lease, outcome.kind)
        except Exception:  # noqa: BLE001 - must not affect other messages
            # Nothing is lost: the message becomes visible again at its visibility timeout.
            outcome = Outcome.returned("settling failed")
            await lease.stop()
            _log.exception("settling failed", **lease.log_fields(outcome.kind))
        return outcome

    async def _dead_letter(self, lease: Lease, outcome: Outcome) -> Outcome:
        assert outcome.reason is not None  # noqa: S101 - a dead-lettered outcome has one
        message, message_id = lease.message, lease.message.message_id
        while message_id in self._sending:
            # SQS delivered the message a second time meanwhile; it gets one dead letter.
            await self._sending[message_id].wait()
        if lease.lost:
            return Outcome.returned("lease lost before it was dead-lettered")
        if message_id in self._dead_lettered:
            # Counted as a duplicate: its only dead letter has been counted.
            self._events["dead_letter_repeats"] += 1
            await self._delete(lease, OutcomeKind.DUPLICATE)
            return Outcome(OutcomeKind.DUPLICATE, detail="dead-lettered before; only deleted")
        letter = to_dead_letter(
            message,
            outcome.reason,
            outcome.detail,
            dead_at=self._state.now(),
            max_bytes=self._dead_letters.message_max_bytes,
        )
        # Not held before its last receive if its version may still be published.
        may_hold = (
            outcome.reason is not Reason.UNKNOWN_POLICY
            or message.receive_count >= self._settings.max_attempts
        )
        sent = self._sending[message_id] = asyncio.Event()
        try:
            await self._send(letter, lease, may_hold=may_hold)
            self._dead_lettered[message_id] = None
            if len(self._dead_lettered) > _DEAD_LETTERED_MAX:
                self._dead_lettered.popitem(last=False)
        except AWSError as error:
            return await self._not_sent(lease, outcome, error)
        finally:
            del self._sending[message_id]
            sent.set()
        self._state.unsent.sent(message_id)
        # Deleted only after SQS has confirmed the dead letter.
        await self._delete(lease, outcome.kind)
        return outcome

    async def _not_sent(self, lease: Lease, refused: Outcome, error: AWSError) -> Outcome:
        """Return a message whose dead letter was not sent, at last for the redrive policy.

        Retrying is pointless only after a rejection. SQS moves the message when its receive count
        reaches maxReceiveCount, which is above `max_attempts`; without a redrive policy the message
        is retried at the longest delay until it expires.
        """
        message, cap_seconds = lease.message, self._settings.backoff_cap_seconds
        self._events["dead_letter_failed"] += 1
        is_last = message.receive_count >= self._settings.max_attempts
        left = is_last and isinstance(error, AWSRejectedError)
        delay = cap_seconds if left else min(UNSENT_DELAY_MAX_SECONDS, cap_seconds)
        if left:
            self._events["left_to_redrive"] += 1
        self._state.unsent.failed(message.message_id, error, delay)
        await self._return(lease, delay)
        log = _log.warning if left else _log.debug
        log(
            "message left to the redrive policy" if left else "dead letter not sent",
            **lease.log_fields(OutcomeKind.RETURNED),
            reason=refused.reason,
            detail=refused.detail,
            receive_count=message.receive_count,
            error=str(error),
        )
        return Outcome.returned(f"could not be dead-lettered: {error}")

    async def _send(self, letter: OutgoingMessage, lease: Lease, *, may_hold: bool) -> None:
        # Denied access is not retried by `retry`: its change ends the wait.
        while True:
            try:
                # A callable, because the lease is extended during the retries.
                await retry(
                    SETTLE_RETRIES, self._sends.submit, letter, until=lambda: lease.expires_at
                )
            except AWSAccessError:
                if not may_hold or not await self._access_may_return(lease):
                    raise
            else:
                return

    async def _delete(self, lease: Lease, kind: OutcomeKind) -> None:
        # As in `_send`; the message also needs its lease during the wait.
        while True:
            valid = lease.stop_now() if lease.extending is None else await lease.stop()
            failure: AWSError | None = None
            try:
                await self._deletes.submit(lease.message)
            except AWSError as error:
                failure = await self._retry_delete(lease, error)
            if failure is not None:
                if valid and isinstance(failure, AWSAccessError):
                    await self._renew(lease)
                    if await self._access_may_return(lease):
                        continue
                    await lease.stop()
                # On its next receive it is a duplicate or a known dead letter, and is deleted.
                self._events["delete_failed"] += 1
                _log.debug("delete failed", **lease.log_fields(kind), error=str(failure))
            else:
                self._events["deleted" if valid else "deleted_late"] += 1
            return

    async def _retry_delete(self, lease: Lease, failed: AWSError) -> AWSError | None:
        """Retry a delete that failed; return the last error, or None for success."""
        try:
            await retry(
                SETTLE_RETRIES,
                self._deletes.submit,
                lease.message,
                failed=failed,
                until=lease.expires_at,
            )
        except AWSError as error:
            return error
        return None

    async def _renew(self, lease: Lease) -> None:
        """Extend and resume a lease whose message could not be deleted."""
        requested_at = asyncio.get_running_loop().time()
        try:
            await self._returns.submit((lease.message, lease.seconds))
        except AWSError as error:
            _log.debug(
                "lease not renewed", **lease.log_fields(OutcomeKind.RETURNED), error=str(error)
            )
        else:
            lease.resume(requested_at)

    async def _access_may_return(self, lease: Lease) -> bool:
        """Wait for a while; return whether the message can still be retried."""
        waiting = self._access.wait_for_change(ACCESS_RETRY_SECONDS)
        await unless_stopped(self._state.stopping, waiting)
        self._state.progressed()
        return not self._state.stopping.is_set() and lease.is_valid

    async def _return(self, lease: Lease, delay_seconds: float) -> None:
        if not await lease.stop():
            return
        try:
            change = (lease.message, delay_seconds)
            await retry(SETTLE_RETRIES, self._returns.submit, change, until=lease.expires_at)
        except AWSError as error:
            # It becomes visible again all the same, at its visibility timeout.
            self._events["hand_back_failed"] += 1
            _log.debug("return failed", **lease.log_fields(OutcomeKind.RETURNED), error=str(error))

    async def aclose(self) -> None:
        """Abandon the entries in flight; messages that wait for them are not settled."""
        for batcher in (self._deletes, self._returns, self._sends):
            await batcher.aclose(AWSError("not sent: the worker has stopped"))
