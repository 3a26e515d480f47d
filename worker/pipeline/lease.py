"""The stage that keeps messages ours while we hold them."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError, AWSNotFoundError, AWSRejectedError, LeaseLostError

_log: Final = structlog.get_logger()

Extend = Callable[[Sequence[tuple[ReceivedMessage, float]]], Awaitable[Sequence[AWSError | None]]]


class Lease:
    """Our hold on one delivery.

    Attributes:
        lost: the message may be with somebody else: a delete of ours is not to be trusted.
        event_id: of the acceptance, for the log; None until the body was read.
    """

    __slots__ = ("_leases", "event_id", "expires_at", "extending", "lost", "message")

    def __init__(self, leases: Leases, message: ReceivedMessage, expires_at: float) -> None:
        self._leases = leases
        self.message = message
        self.expires_at = expires_at
        self.lost = False
        self.event_id: str | None = None
        self.extending: asyncio.Future[None] | None = None

    def named(self, kind: OutcomeKind) -> dict[str, str | None]:
        """Name the message and its fate, for the log."""
        return {
            "message_id": self.message.message_id,
            "event_id": self.event_id,
            "outcome": kind.value,
        }

    @property
    def seconds(self) -> float:
        """How long each extension lasts."""
        return self._leases.seconds

    @property
    def is_ours(self) -> bool:
        """Whether the message is still ours."""
        return self._leases.is_ours(self)

    def resume(self, extended_at: float) -> None:
        """Extend again; the last extension was asked for at that moment of the loop's clock."""
        self._leases.resume(self, extended_at)

    async def stop(self) -> bool:
        """Extend no more; an extension under way ends first, so that it overwrites nothing later.

        Returns:
            Whether the message is still ours.
        """
        self._leases.let_go(self)
        if self.extending is not None:
            await asyncio.wait([self.extending])
        return self._leases.is_ours(self)


class Leases:
    """Extend, in batches, every lease that is half over.

    Args:
        extend: changes the visibility of up to 10 deliveries.
        visibility_timeout_seconds: the length of a lease.
        concurrency: batches under way at most.
        events: where lost leases are counted.

    Attributes:
        seconds: the length of a lease.
    """

    def __init__(
        self,
        extend: Extend,
        visibility_timeout_seconds: float,
        *,
        concurrency: int = 8,
        events: Counter[str] | None = None,
    ) -> None:
        self._extend = extend
        self.seconds = visibility_timeout_seconds
        self._concurrency = concurrency
        self._events = events if events is not None else Counter()
        # In the order in which they fall due: new and renewed ones go to the end.
        self._held: OrderedDict[int, Lease] = OrderedDict()
        self._now = asyncio.get_running_loop().time
        self._by_message: dict[str, Lease] = {}
        self._arrival = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, message: ReceivedMessage) -> Lease:
        """Begin to keep a delivery ours.

        An older delivery of the same message is lost by that: only the newest handle settles.
        """
        lease = Lease(self, message, self._now() + self.seconds)
        older = self._by_message.get(message.message_id)
        if older is not None:
            self._lose(older, "handed out again while it was held")
        self._held[id(lease)] = lease
        self._by_message[message.message_id] = lease
        self._arrival.set()
        return lease

    def resume(self, lease: Lease, extended_at: float) -> None:
        """Keep a lease again that was let go; not after a newer one of the same message."""
        if lease.lost or lease.message.message_id in self._by_message:
            return
        lease.expires_at = extended_at + self.seconds
        self._held[id(lease)] = lease
        self._by_message[lease.message.message_id] = lease
        self._arrival.set()

    def is_ours(self, lease: Lease) -> bool:
        """Say whether a lease was neither lost nor ran out."""
        if not lease.lost and self._now() >= lease.expires_at:
            self._lose(lease, "ran out")
        return not lease.lost

    def let_go(self, lease: Lease) -> None:
        """Begin no more extension of a lease."""
        self._held.pop(id(lease), None)
        if self._by_message.get(lease.message.message_id) is lease:
            del self._by_message[lease.message.message_id]

    def _lose(self, lease: Lease, why: str) -> None:
        if lease.lost:
            return
        lease.lost = True
        self.let_go(lease)
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
        loop = asyncio.get_running_loop()
        while True:
            if not self._held:
                self._arrival.clear()
                await self._arrival.wait()
                continue
            first = next(iter(self._held.values()))
            wait = first.expires_at - self.seconds / 2 - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            if not await self._extend_due():
                await asyncio.sleep(min(1.0, self.seconds / 20))

    async def _extend_due(self) -> bool:
        # What falls due within a second shares the batches.
        limit = asyncio.get_running_loop().time() + self.seconds / 2 + min(1.0, self.seconds / 8)
        due: list[Lease] = []
        for lease in self._held.values():
            if lease.expires_at > limit or len(due) == BATCH_MAX_ENTRIES * self._concurrency:
                break
            due.append(lease)
        batches = [
            due[start : start + BATCH_MAX_ENTRIES]
            for start in range(0, len(due), BATCH_MAX_ENTRIES)
        ]
        return all(await asyncio.gather(*map(self._extend_batch, batches)))

    async def _extend_batch(self, batch: list[Lease]) -> bool:
        # We begin a turn of the loop after the choice: what was stopped since then is settling.
        batch = [lease for lease in batch if id(lease) in self._held]
        if not batch:
            return True
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        extending = loop.create_future()
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
            self._learn(lease, result, asked_at)
        return not any(results)

    def _learn(self, lease: Lease, error: AWSError | None, asked_at: float) -> None:
        if error is None:
            lease.expires_at = asked_at + self.seconds
            self._events["lease_extended"] += 1
            if id(lease) in self._held:
                self._held.move_to_end(id(lease))
        elif isinstance(error, LeaseLostError | AWSNotFoundError | AWSRejectedError):
            self._lose(lease, str(error))
        elif self._now() >= lease.expires_at:
            self._lose(lease, f"ran out: {error}")
