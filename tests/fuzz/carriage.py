"""Carry bodies through the real pipeline, on simulated services without faults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from tests.fuzz.decoding import BodyError, check_detail
from tests.simulation.sqs_messages import StoredMessage
from tests.simulation.virtual_clock import run
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, clock, open_world, policy, settings
from worker.domain.acceptance import Acceptance
from worker.domain.dead_letter import ATTRIBUTE, read
from worker.domain.evidence import same_content, verify
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage, ReceivedMessage
from worker.domain.outcome import OutcomeKind
from worker.errors import Reason
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import SingletonMeta

_PATIENCE_SECONDS: Final = 10_000.0
_NEVER_LOGGED: Final = ("unexpected failure", "settling failed", "stage failed")
_NEVER_COUNTED: Final = (
    "table_failures", "dead_letter_failed", "delete_failed", "hand_back_failed", "lease_lost",
    "poll_failures",
)  # fmt: skip
# What a message that reads well may die of.
_AFTER_DECODING: Final = {"unknown_policy", "content_mismatch", "conflict"}
# Near the size limit a detail is shortened to 60 characters, at most six bytes each, or left out.
_SHORTEST_DETAIL_BYTES: Final = 360
_UNEXPLAINED: Final = "no room for a reason"
_TALKATIVE: Final = structlog.make_filtering_bound_logger(10)

Decoded = Acceptance | Reason


@dataclass(slots=True)
class Carriage:
    """Bring many bodies through the pipeline and audit their ends.

    Attributes:
        ends: how many ended in which way.
    """

    ends: Counter[str] = field(default_factory=Counter)
    _details: list[tuple[str, str]] = field(default_factory=list)
    _alarms: list[tuple[str, str]] = field(default_factory=list)

    def carry(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        """Send the bodies, let the pipeline end, and compare with what decoding alone gave.

        Raises:
            BodyError: one of them did not end as it must.
        """
        self._details.clear()
        self._alarms.clear()
        with self._listening():
            run(lambda: self._carry(bodies, decoded), seed=0)
        SingletonMeta.forget_all()

    async def _carry(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        world = await open_world()
        queue = world.sqs.queue(SOURCE)
        sent = [queue.send(body, {}, {}, None) for body in bodies]
        by_id = {each.message_id: body for each, body in zip(sent, bodies, strict=True)}
        async with world.repository() as repository:
            await repository.publish_policy(policy())
            chosen = settings(unknown_policy_seconds=5.0, backoff_base_seconds=0.5)
            pipeline = assemble(
                (world.source, world.dead_letters), repository, chosen, metrics=Metrics(), now=clock
            )
            running = asyncio.create_task(pipeline.run())
            await _until_empty(world, running)
            pipeline.stopping.set()
            await running
        for problem, message_id in self._alarms:
            raise BodyError(problem, by_id[message_id])
        for detail, message_id in self._details:
            check_detail(detail, by_id[message_id])
        _check_books(pipeline, bodies)
        dead = _Graveyard(world, by_id)
        dead.check(bodies, decoded)
        _check_records(world, _survivors(bodies, decoded, dead))
        self._count(pipeline, dead)

    def _count(self, pipeline: Pipeline, dead: _Graveyard) -> None:
        for kind in (OutcomeKind.RECORDED, OutcomeKind.DUPLICATE):
            self.ends[kind.value] += pipeline.metrics.accounting.by_kind[kind]
        self.ends.update(dead.reasons)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        before = structlog.get_config()
        structlog.configure(
            processors=[self._take], wrapper_class=_TALKATIVE, cache_logger_on_first_use=False
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _take(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Any:
        event, message_id = entry["event"], entry.get("message_id", "")
        if event in _NEVER_LOGGED:
            self._alarms.append((f"{event}: {entry.get('exc_info')!r}", message_id))
        if entry.get("detail"):
            self._details.append((entry["detail"], message_id))
        raise structlog.DropEvent


class _Graveyard:
    """What lies in the dead-letter queue."""

    def __init__(self, world: World, by_id: dict[str, str]) -> None:
        letters = list(world.sqs.queue(DEAD_LETTERS).messages.values())
        self.bodies = Counter(letter.body for letter in letters)
        self.reasons = Counter(_reason(letter, by_id) for letter in letters)
        self._reason_of = {letter.body: _reason(letter, by_id) for letter in letters}

    def check(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        """See that nothing is dead that was not sent, or for another reason than decoding gave."""
        strangers = self.bodies - Counter(bodies)
        for body in strangers:
            raise BodyError("dead, but not as it was sent", body)
        for body, result in zip(bodies, decoded, strict=True):
            reason = self._reason_of.get(body)
            allowed = {result.value} if isinstance(result, Reason) else _AFTER_DECODING
            if reason is None and isinstance(result, Reason):
                raise BodyError(f"{result}, and not dead", body)
            if reason is not None and reason not in {*allowed, _UNEXPLAINED}:
                raise BodyError(f"dead of {reason}, and decoding gave {result!a:.80}", body)


def _reason(letter: StoredMessage, by_id: dict[str, str]) -> str:
    death = read(_delivery(letter))
    if death is None:
        if len(letter.body.encode()) + len(ATTRIBUTE) + 40 < MESSAGE_MAX_BYTES:
            raise BodyError("dead without a reason, although there was room", letter.body)
        return _UNEXPLAINED
    if death.message_id:  # not in the shortest note
        if by_id[death.message_id] != letter.body:
            raise BodyError("dead, but not as it was sent", letter.body)
        if death.detail or _has_room(letter, _SHORTEST_DETAIL_BYTES):
            check_detail(death.detail, letter.body)
    return death.reason


def _has_room(letter: StoredMessage, free_bytes: int) -> bool:
    size = OutgoingMessage(letter.body, letter.attributes).size_bytes
    return size + free_bytes <= MESSAGE_MAX_BYTES


def _delivery(letter: StoredMessage) -> ReceivedMessage:
    moment = clock()
    return ReceivedMessage(letter.message_id, "", letter.body, moment, moment, 1, letter.attributes)


async def _until_empty(world: World, running: asyncio.Task[None]) -> None:
    messages = world.sqs.queue(SOURCE).messages
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while messages and not running.done():
        if asyncio.get_running_loop().time() > deadline:
            left = next(iter(messages.values()))
            raise BodyError(f"{len(messages)} come to no end, this one among them", left.body)
        await asyncio.sleep(1.0)


def _check_books(pipeline: Pipeline, bodies: Sequence[str]) -> None:
    figures, events = pipeline.metrics.accounting.figures(), pipeline.metrics.events
    by_kind = pipeline.metrics.accounting.by_kind
    settled = by_kind.total() - by_kind[OutcomeKind.RETURNED]
    assert figures["balanced"], figures
    assert figures["held"] == 0, figures
    assert settled == len(bodies), (len(bodies), figures)
    assert not [name for name in _NEVER_COUNTED if events[name]], dict(events)


def _survivors(
    bodies: Sequence[str], decoded: Sequence[Decoded], dead: _Graveyard
) -> dict[tuple[str, str], list[Acceptance]]:
    """Give what must be recorded, by its key: the first one was, the others say the same."""
    left = Counter(bodies) - dead.bodies
    found: dict[tuple[str, str], list[Acceptance]] = {}
    for body, result in zip(bodies, decoded, strict=True):
        if left[body] and isinstance(result, Acceptance):
            found.setdefault((result.user_id, result.policy_version), []).append(result)
    return found


def _check_records(world: World, survivors: dict[tuple[str, str], list[Acceptance]]) -> None:
    records = {(item["user_id"], item["policy_version"]): item for item in world.records()}
    assert records.keys() == survivors.keys(), records.keys() ^ survivors.keys()
    for key, item in records.items():
        assert not verify(item), (key, verify(item))
        assert any(same_content(item, each) for each in survivors[key]), key
    world.dynamodb.verify()
