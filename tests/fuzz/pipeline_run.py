"""Run of the real pipeline with many bodies, on simulated services without faults."""

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
from tests.simulation.virtual_clock import never_busy, run
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

_TIMEOUT_SECONDS: Final = 10_000.0
_UNEXPECTED_EVENTS: Final = ("unexpected failure", "settling failed", "stage failed")
_UNEXPECTED_COUNTERS: Final = (
    "table_failures", "dead_letter_failed", "delete_failed", "hand_back_failed", "lease_lost",
    "poll_failures",
)  # fmt: skip
# Reasons for which a message that decodes may be dead-lettered.
_AFTER_DECODING: Final = {"unknown_policy", "content_mismatch", "conflict"}
# Near the size limit, a detail is cut to 60 characters of at most six bytes each, or left out.
_SHORTEST_DETAIL_BYTES: Final = 360
_WITHOUT_REASON: Final = "no space for a reason"
_ALL_LEVELS: Final = structlog.make_filtering_bound_logger(10)

Decoded = Acceptance | Reason


@dataclass(slots=True)
class PipelineRun:
    """Pipeline runs with many bodies, whose outcomes are checked.

    Attributes:
        outcomes: Number of bodies by outcome.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    _details: list[tuple[str, str]] = field(default_factory=list)
    _problems: list[tuple[str, str]] = field(default_factory=list)

    def process(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        """Send the bodies, run the pipeline and compare the outcomes with those of decoding.

        Raises:
            BodyError: A body has a wrong outcome.
        """
        self._details.clear()
        self._problems.clear()
        with self._logs_captured():
            run(lambda: self._process(bodies, decoded), seed=0)
        SingletonMeta.forget_all()

    async def _process(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        world = await open_world()
        queue = world.sqs.queue(SOURCE)
        sent = [queue.send(body, {}, {}, None) for body in bodies]
        by_id = {each.message_id: body for each, body in zip(sent, bodies, strict=True)}
        async with world.repository() as repository:
            await repository.publish_policy(policy())
            chosen = settings(unknown_policy_seconds=5.0, backoff_base_seconds=0.5)
            pipeline = assemble(
                (world.source, world.dead_letters),
                repository,
                chosen,
                metrics=Metrics(),
                now=clock,
                busy=never_busy,
            )
            running = asyncio.create_task(pipeline.run())
            await _until_empty(world, running)
            pipeline.stopping.set()
            await running
        for problem, message_id in self._problems:
            raise BodyError(problem, by_id[message_id])
        for detail, message_id in self._details:
            check_detail(detail, by_id[message_id])
        _check_accounting(pipeline, bodies)
        dead_letters = _DeadLetters(world, by_id)
        dead_letters.check(bodies, decoded)
        _check_records(world, _expected_records(bodies, decoded, dead_letters))
        self._count(pipeline, dead_letters)

    def _count(self, pipeline: Pipeline, dead_letters: _DeadLetters) -> None:
        for kind in (OutcomeKind.RECORDED, OutcomeKind.DUPLICATE):
            self.outcomes[kind.value] += pipeline.metrics.accounting.by_kind[kind]
        self.outcomes.update(dead_letters.reasons)

    @contextmanager
    def _logs_captured(self) -> Iterator[None]:
        before = structlog.get_config()
        structlog.configure(
            processors=[self._inspect], wrapper_class=_ALL_LEVELS, cache_logger_on_first_use=False
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _inspect(self, _logger: Any, _method: str, entry: MutableMapping[str, Any]) -> Any:
        event, message_id = entry["event"], entry.get("message_id", "")
        if event in _UNEXPECTED_EVENTS:
            self._problems.append((f"{event}: {entry.get('exc_info')!r}", message_id))
        if entry.get("detail"):
            self._details.append((entry["detail"], message_id))
        raise structlog.DropEvent


class _DeadLetters:
    """Contents of the dead-letter queue."""

    def __init__(self, world: World, by_id: dict[str, str]) -> None:
        dead_letters = list(world.sqs.queue(DEAD_LETTERS).messages.values())
        self.bodies = Counter(dead_letter.body for dead_letter in dead_letters)
        self.reasons = Counter(_reason(dead_letter, by_id) for dead_letter in dead_letters)
        self._reason_of = {
            dead_letter.body: _reason(dead_letter, by_id) for dead_letter in dead_letters
        }

    def check(self, bodies: Sequence[str], decoded: Sequence[Decoded]) -> None:
        """Check that dead letters have the bodies sent and the reasons found by decoding."""
        unexpected = self.bodies - Counter(bodies)
        for body in unexpected:
            raise BodyError("dead-lettered with a changed body", body)
        for body, result in zip(bodies, decoded, strict=True):
            reason = self._reason_of.get(body)
            allowed = {result.value} if isinstance(result, Reason) else _AFTER_DECODING
            if reason is None and isinstance(result, Reason):
                raise BodyError(f"{result}, but not dead-lettered", body)
            if reason is not None and reason not in {*allowed, _WITHOUT_REASON}:
                raise BodyError(
                    f"dead-lettered as {reason}, but decoding returned {result!a:.80}", body
                )


def _reason(dead_letter: StoredMessage, by_id: dict[str, str]) -> str:
    info = read(_received_message(dead_letter))
    if info is None:
        if len(dead_letter.body.encode()) + len(ATTRIBUTE) + 40 < MESSAGE_MAX_BYTES:
            raise BodyError(
                "dead-lettered without a reason, although there is space", dead_letter.body
            )
        return _WITHOUT_REASON
    if info.message_id:  # missing in the shortest attribute
        if by_id[info.message_id] != dead_letter.body:
            raise BodyError("dead-lettered with a changed body", dead_letter.body)
        if info.detail or _has_space(dead_letter, _SHORTEST_DETAIL_BYTES):
            check_detail(info.detail, dead_letter.body)
    return info.reason


def _has_space(dead_letter: StoredMessage, free_bytes: int) -> bool:
    size = OutgoingMessage(dead_letter.body, dead_letter.attributes).size_bytes
    return size + free_bytes <= MESSAGE_MAX_BYTES


def _received_message(dead_letter: StoredMessage) -> ReceivedMessage:
    return ReceivedMessage(
        dead_letter.message_id, "", dead_letter.body, attributes=dead_letter.attributes
    )


async def _until_empty(world: World, running: asyncio.Task[None]) -> None:
    messages = world.sqs.queue(SOURCE).messages
    deadline = asyncio.get_running_loop().time() + _TIMEOUT_SECONDS
    while messages and not running.done():
        if asyncio.get_running_loop().time() > deadline:
            left = next(iter(messages.values()))
            raise BodyError(
                f"{len(messages)} messages are not settled, including this one", left.body
            )
        await asyncio.sleep(1.0)


def _check_accounting(pipeline: Pipeline, bodies: Sequence[str]) -> None:
    figures, events = pipeline.metrics.accounting.figures(), pipeline.metrics.events
    by_kind = pipeline.metrics.accounting.by_kind
    settled = by_kind.total() - by_kind[OutcomeKind.RETURNED]
    assert figures["balanced"], figures
    assert figures["held"] == 0, figures
    assert settled == len(bodies), (len(bodies), figures)
    assert not [name for name in _UNEXPECTED_COUNTERS if events[name]], dict(events)


def _expected_records(
    bodies: Sequence[str], decoded: Sequence[Decoded], dead_letters: _DeadLetters
) -> dict[tuple[str, str], list[Acceptance]]:
    """Return the acceptances of each key that must be recorded."""
    left = Counter(bodies) - dead_letters.bodies
    found: dict[tuple[str, str], list[Acceptance]] = {}
    for body, result in zip(bodies, decoded, strict=True):
        if left[body] and isinstance(result, Acceptance):
            found.setdefault((result.user_id, result.policy_version), []).append(result)
    return found


def _check_records(world: World, expected: dict[tuple[str, str], list[Acceptance]]) -> None:
    records = {(item["user_id"], item["policy_version"]): item for item in world.records()}
    assert records.keys() == expected.keys(), records.keys() ^ expected.keys()
    for key, item in records.items():
        assert not verify(item), (key, verify(item))
        assert any(same_content(item, each) for each in expected[key]), key
    world.dynamodb.verify()
