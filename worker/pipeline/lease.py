"""Leases: batched visibility extensions for messages in flight."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final

import msgspec
import structlog

from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError, AWSNotFoundError, AWSRejectedError, LeaseLostError
from worker.pipeline.access_watch import BatchCall

_log: Final = structlog.get_logger()
# After a failed extension; a twentieth of a shorter lease.
EXTEND_RETRY_SECONDS: Final = 1.0


class Lease(msgspec.Struct, eq=False):
    """Time-limited claim on one received message.

    Attributes:
        message: The message.
        expires_at: When its visibility timeout ends, in seconds of the loop's clock.
        lost: Another consumer may have the message: a delete may not take effect.
        is_decided: The message has an outcome: from now on it is being settled.
        event_id: Event of the acceptance, for the log; None until the body is decoded.
        extending: Done when the extension in flight is; None without one.
    """

    _leases: Leases
    message: ReceivedMessage
    expires_at: float
    lost: bool = False
    is_decided: bool = False
    event_id: str | None = None
    extending: asyncio.Future[None] | None = None

    def log_fields(self, kind: OutcomeKind) -> dict[str, str | None]:
        """Return the fields that identify the message and its outcome in the log."""
        return {
            "message_id": self.message.message_id,
            "event_id": self.event_id,
            "outcome": kind.value,
        }

    @property
    def seconds(self) -> float:
        """Length of each extension."""
        return self._leases.seconds

    @property
    def is_valid(self) -> bool:
        """Whether the lease has neither been lost nor expired."""
        return self._leases.is_valid(self)

    def resume(self, extended_at: float) -> None:
        """Resume extensions; the last one was requested at this time of the loop's clock."""
        self._leases.resume(self, extended_at)

    async def stop(self) -> bool:
        """Stop extending, after the extension in flight so that it overwrites nothing later.

        Returns:
            Whether the lease is still valid.
        """
        is_valid = self.stop_now()
        if self.extending is None:
            return is_valid
        await asyncio.wait([self.extending])
        return self.is_valid

    def stop_now(self) -> bool:
        """Stop extending while no extension is in flight; return whether the lease is valid."""
        self._leases.release(self)
        return self.is_valid


class Leases:
    """Leases of all messages in flight, extended in batches at half their time.

    Args:
        extend: Changes the visibility of up to 10 messages.
        visibility_timeout_seconds: Length of a lease.
        concurrency: Maximum number of batches in flight.
        events: Counters of extensions and lost leases.

    Attributes:
        seconds: Length of a lease.
    """

    def __init__(
        self,
        extend: BatchCall[tuple[ReceivedMessage, float]],
        visibility_timeout_seconds: float,
        *,
        concurrency: int = 8,
        events: Counter[str] | None = None,
    ) -> None:
        self._extend = extend
        self.seconds = visibility_timeout_seconds
        self._concurrency = concurrency
        self._events = events if events is not None else Counter()
        # By message id, ordered by expiry: new and extended leases go to the end.
        self._held: OrderedDict[str, Lease] = OrderedDict()
        self._now = asyncio.get_running_loop().time
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, message: ReceivedMessage) -> Lease:
        """Return a new lease that is extended from now on.

        An older lease of the same message is lost: only the newest receipt handle settles it.
        """
        lease = Lease(self, message, self._now() + self.seconds)
        older = self._held.get(message.message_id)
        if older is not None:
            self.lose(older, "received again while in flight")
        self._add(lease)
        return lease

    def resume(self, lease: Lease, extended_at: float) -> None:
        """Extend a released lease again, unless it was lost or the message has a newer one."""
        if lease.lost or lease.message.message_id in self._held:
            return
        lease.expires_at = extended_at + self.seconds
        self._add(lease)

    def _add(self, lease: Lease) -> None:
        if not self._held:
            self._arrival.set()
        self._held[lease.message.message_id] = lease

    def is_valid(self, lease: Lease) -> bool:
        """Return whether a lease has neither been lost nor expired."""
        if not lease.lost and self._now() >= lease.expires_at:
            self.lose(lease, "expired")
        return not lease.lost

    def release(self, lease: Lease) -> None:
        """Start no further extension of a lease."""
        if self._is_held(lease):
            del self._held[lease.message.message_id]

    def _is_held(self, lease: Lease) -> bool:
        return self._held.get(lease.message.message_id) is lease

    def lose(self, lease: Lease, why: str) -> None:
        """Mark a lease as lost and stop extending it."""
        if lease.lost:
            return
        lease.lost = True
        self.release(lease)
        self._events["lease_lost"] += 1
        _log.warning(
            "lease lost",
            message_id=lease.message.message_id,
            event_id=lease.event_id,
            outcome="lost",
            why=why,
        )

    async def run(self) -> None:
        """Extend leases until cancelled."""
        while True:
            if not self._held:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            first = next(iter(self._held.values()))
            wait = first.expires_at - self.seconds / 2 - self._now()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            if not await self._extend_due():
                await asyncio.sleep(min(EXTEND_RETRY_SECONDS, self.seconds / 20))

    async def _extend_due(self) -> bool:
        # Extensions that are due within a second share their batches.
        limit = self._now() + self.seconds / 2 + min(1.0, self.seconds / 8)
        soonest = takewhile(lambda lease: lease.expires_at <= limit, self._held.values())
        due = list(islice(soonest, BATCH_MAX_ENTRIES * self._concurrency))
        batches = [
            due[start : start + BATCH_MAX_ENTRIES]
            for start in range(0, len(due), BATCH_MAX_ENTRIES)
        ]
        return all(await asyncio.gather(*map(self._extend_batch, batches)))

    async def _extend_batch(self, batch: list[Lease]) -> bool:
        # A task starts one loop iteration later: a lease released since then is being settled.
        batch = [lease for lease in batch if self._is_held(lease)]
        if not batch:
            return True
        requested_at = self._now()
        extending = asyncio.get_running_loop().create_future()
        for lease in batch:
            lease.extending = extending
        results: Sequence[AWSError | None]
        try:
            results = await self._extend([(lease.message, self.seconds) for lease in batch])
        except AWSError as error:
            results = [error] * len(batch)
        finally:
            extending.set_result(None)
            for lease in batch:
                lease.extending = None
        for lease, result in zip(batch, results, strict=True):
            self._apply(lease, result, requested_at)
        return not any(results)

    def _apply(self, lease: Lease, error: AWSError | None, requested_at: float) -> None:
        if error is None:
            lease.expires_at = requested_at + self.seconds
            self._events["lease_extended"] += 1
            if self._is_held(lease):
                self._held.move_to_end(lease.message.message_id)
        elif isinstance(error, LeaseLostError | AWSNotFoundError | AWSRejectedError):
            self.lose(lease, str(error))
        elif self._now() >= lease.expires_at:
            self.lose(lease, f"expired: {error}")
