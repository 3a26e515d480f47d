"""The dead-letter queue, looked at without taking anything."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from worker.dead_letter import Replays, read, replays
from worker.delivery import BATCH_MAX_ENTRIES, Delivery
from worker.errors import AWSError, AWSThrottledError, RefusedError
from worker.pipeline.decode import decode, unwrap
from worker.queue import Queue

LOOK_SECONDS: Final = 120
_POLL_SECONDS: Final = 1
_EMPTY_POLLS: Final = 2
_QUICK_SECONDS: Final = 0.5
# No good name is longer; Python refuses to write out absurdly long numbers.
_NAME_MAX_CHARACTERS: Final = 256
_NUMBER_MAX_BITS: Final = 1024
UNEXPLAINED: Final = "unexplained"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant.

    Attributes:
        ids: only these, by their own or their original's id; all, if empty.
        reasons: only these; all, if empty.
        users: only those of these users, as the body names them; all, if empty.
        policies: only those of these policies; all, if empty.
        versions: only those of these versions; all, if empty.
        since: only what died then or later; aware.
        until: only what died before then; aware.
        grep: only where this is found in the body, the detail or an attribute.
        limit: how many at most.
    """

    ids: Collection[str] = ()
    reasons: Collection[str] = ()
    users: Collection[str] = ()
    policies: Collection[str] = ()
    versions: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    grep: re.Pattern[str] | None = None
    limit: int | None = None

    def matches(self, letter: DeadLetter) -> bool:
        """Say whether a dead letter is meant, the limit aside."""
        by_id = not self.ids or not {letter.message_id, letter.original_message_id}.isdisjoint(
            self.ids
        )
        return by_id and self._by_name(letter) and self._by_time(letter) and self._by_text(letter)

    def _by_name(self, letter: DeadLetter) -> bool:
        pairs = (
            (self.reasons, letter.reason),
            (self.users, letter.user_id),
            (self.policies, letter.policy_id),
            (self.versions, letter.version),
        )
        return all(not wanted or value in wanted for wanted, value in pairs)

    def _by_time(self, letter: DeadLetter) -> bool:
        after = self.since is None or letter.dead_at >= self.since
        return after and (self.until is None or letter.dead_at < self.until)

    def _by_text(self, letter: DeadLetter) -> bool:
        if self.grep is None:
            return True
        return any(self.grep.search(text) for text in _texts(letter))


def _texts(letter: DeadLetter) -> Iterator[str]:
    yield letter.delivery.body
    yield letter.detail
    for name, value in letter.delivery.attributes.items():
        yield name
        yield value.get("StringValue", "")
        yield bytes(value.get("BinaryValue", b"")).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter as a person wants to see it.

    Attributes:
        message_id: what the dead-letter queue calls it; `show` and `replay` take it, or the
            original's id.
        original_message_id: what the source queue called the message; empty if nobody said.
        reason: the worker's reason, or what its body tells where SQS itself moved it.
        sent_at: when the original was sent, as far as known.
        dead_at: when it came into the dead-letter queue, as far as known.
        expires_at: when SQS deletes it for good.
        receive_count: how often the original was received before it was dead-lettered.
        user_id: of the acceptance, as the body has it; None where it cannot tell.
        policy_id: the same.
        version: the same.
        history: how often it was replayed, and what was edited then.
    """

    delivery: Delivery
    message_id: str
    original_message_id: str
    reason: str
    detail: str
    sent_at: datetime
    dead_at: datetime
    expires_at: datetime
    receive_count: int
    user_id: str | None = None
    policy_id: str | None = None
    version: str | None = None
    history: Replays = field(default_factory=Replays)

    def bare(self) -> DeadLetter:
        """Give it without body and attributes: a large queue must not fill the memory."""
        return replace(self, delivery=replace(self.delivery, body="", attributes={}))

    def summary(self, now: datetime) -> dict[str, Any]:
        """Give everything but the body, for a report."""
        return {
            "id": self.message_id,
            "original_id": self.original_message_id,
            "reason": self.reason,
            "detail": self.detail,
            "sent_at": self.sent_at.isoformat(timespec="seconds"),
            "age_seconds": round((now - self.sent_at).total_seconds()),
            "expires_at": self.expires_at.isoformat(timespec="seconds"),
            "expires_in_seconds": round((self.expires_at - now).total_seconds()),
            "receive_count": self.receive_count,
            "user_id": self.user_id,
            "policy_id": self.policy_id,
            "version": self.version,
            "replays": self.history.count,
        }


def describe(delivery: Delivery, *, retention_seconds: int, now: datetime) -> DeadLetter:
    """Tell what a message of the dead-letter queue is.

    Args:
        delivery: as the dead-letter queue handed it out.
        retention_seconds: of the dead-letter queue.
        now: the present time, aware.
    """
    death = read(delivery)
    if death is None:
        reason, detail = _diagnose(delivery, now)
    else:
        reason, detail = death.reason, death.detail
    sent_at = delivery.sent_at
    if death is not None and death.sent_at:
        sent_at = _moment(death.sent_at, sent_at)
    user_id, policy_id, version = _names(delivery.body)
    return DeadLetter(
        delivery=delivery,
        message_id=delivery.message_id,
        original_message_id=death.message_id if death else "",
        reason=reason,
        detail=detail,
        sent_at=sent_at,
        dead_at=delivery.sent_at,
        expires_at=delivery.sent_at + timedelta(seconds=retention_seconds),
        receive_count=death.receive_count if death else 0,
        user_id=user_id,
        policy_id=policy_id,
        version=version,
        history=replays(delivery),
    )


def _diagnose(delivery: Delivery, now: datetime) -> tuple[str, str]:
    """Find the reason in the body, where no worker wrote it down."""
    try:
        # A purge may go by this reason, so a slow clock of this host must not find it.
        passed = max(now, delivery.first_received_at, delivery.sent_at)
        decode(delivery.body, now=passed, clock_skew_seconds=0)
    except RefusedError as refused:
        return refused.reason.value, refused.detail
    return UNEXPLAINED, "moved by SQS itself after its last receive; the message reads well"


def _names(body: str) -> tuple[str | None, str | None, str | None]:
    """Find user, policy and version, where the body is good enough to tell."""
    try:
        payload, _ = unwrap(body)
    except RefusedError:
        return None, None, None
    user_id, policy_id, version = map(payload.get, ("user_id", "policy_id", "version"))
    return _name(user_id), _name(policy_id), _name(version)


def _name(value: object) -> str | None:
    # A number in the place of a name still tells whose message it is.
    if isinstance(value, str):
        return value[:_NAME_MAX_CHARACTERS]
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return str(value) if value.bit_length() <= _NUMBER_MAX_BITS else None


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return moment if moment.tzinfo else otherwise


async def walk(
    queue: Queue,
    *,
    now: Callable[[], datetime],
    look_seconds: int = LOOK_SECONDS,
    at_end: Callable[[], Awaitable[None]] | None = None,
    polls: int = 1,
) -> AsyncGenerator[DeadLetter, None]:
    """Go through a dead-letter queue once, hiding each message only while the walk lasts.

    Whatever is not deleted meanwhile is visible again when the iterator is closed: use it with
    `contextlib.aclosing`. It ends early where SQS hands out no more because too many are hidden.

    Args:
        queue: the dead-letter queue.
        now: gives the present time, aware.
        look_seconds: how long a message stays hidden if the walk is killed.
        at_end: called after the last message, while all are hidden still.
        polls: how many are under way at most.
    """
    state = await queue.state()
    looking = _Looking(queue, look_seconds, polls, known=state.visible)
    try:
        while not looking.over:
            for delivery in await looking.more():
                yield describe(delivery, retention_seconds=state.retention_seconds, now=now())
        if at_end is not None:
            await at_end()
    finally:
        await asyncio.shield(looking.show_again())


class _Looking:
    """The polls of one walk, and all that they hid.

    Args:
        queue: the dead-letter queue.
        look_seconds: how long a message stays hidden.
        polls: how many are under way at most, and then how many calls that show them again.
        known: how many there are by SQS's own approximate count; once they are seen, one empty
            poll is enough.
    """

    def __init__(self, queue: Queue, look_seconds: int, polls: int, *, known: int) -> None:
        self._queue = queue
        self._known = known
        self._look_seconds = look_seconds
        self._most = polls
        self._seen: set[str] = set()
        self._hidden: list[Delivery] = []
        # Each poll with when and in which turn it began: what began before the latest news, or
        # beside another empty poll, asked too early to tell that nothing is left.
        self._under_way: dict[asyncio.Task[list[Delivery]], tuple[float, int]] = {}
        self._clock = asyncio.get_running_loop().time
        self._turn = 0
        self._empty = 0
        self._fruitful = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to see."""
        return self._is_exhausted and not self._under_way

    @property
    def _is_exhausted(self) -> bool:
        return self._empty >= (1 if len(self._seen) >= self._known else _EMPTY_POLLS)

    async def more(self) -> list[Delivery]:
        """Wait for the next answers; give what they hold that was not seen yet."""
        wanted = self._most if self._fruitful else 1
        while not self._is_exhausted and len(self._under_way) < wanted:
            polling = asyncio.create_task(
                self._queue.receive(
                    BATCH_MAX_ENTRIES,
                    wait_seconds=_POLL_SECONDS,
                    visibility_timeout_seconds=self._look_seconds,
                )
            )
            self._under_way[polling] = self._clock(), self._turn
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        return [each for polling in done for each in self._take(polling)]

    def _take(self, polling: asyncio.Task[list[Delivery]]) -> list[Delivery]:
        began, turn = self._under_way.pop(polling)
        try:
            deliveries = polling.result()
        except AWSThrottledError as error:
            if not (self._seen and "OverLimit" in str(error)):
                raise
            self._empty = _EMPTY_POLLS
            return []
        self._hide(deliveries)
        # One answer may hold a message twice.
        new = {each.message_id: each for each in deliveries if each.message_id not in self._seen}
        self._seen.update(new)
        # More at once would only make a slow server slower.
        self._fruitful = bool(new) and self._clock() - began < _QUICK_SECONDS
        if new:
            self._empty = 0
            self._turn += 1
        elif turn == self._turn:
            self._empty += 1
            self._turn += 1
        return list(new.values())

    def _hide(self, deliveries: list[Delivery]) -> None:
        # Every handle: of two that came side by side nobody knows the newer one, which shows it.
        # No body: a large queue must not fill the memory.
        self._hidden += [replace(each, body="", attributes={}) for each in deliveries]

    async def show_again(self) -> None:
        """Let everything be visible at once that was hidden, by polls under way too."""
        for answer in await asyncio.gather(*self._under_way, return_exceptions=True):
            if isinstance(answer, list):
                self._hide(answer)
        starts = iter(range(0, len(self._hidden), BATCH_MAX_ENTRIES))

        async def show() -> None:
            for start in starts:
                batch = self._hidden[start : start + BATCH_MAX_ENTRIES]
                # An entry that fails was deleted meanwhile, or shows itself when its time is over.
                with suppress(AWSError):
                    await self._queue.change_visibility([(each, 0.0) for each in batch])

        await asyncio.gather(*(show() for _ in range(self._most)))
