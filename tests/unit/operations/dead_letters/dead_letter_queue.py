"""Helpers of the tests that fill and inspect a dead-letter queue."""

from __future__ import annotations

from typing import Any

from tests.unit.fakes import World, body, clock, received_message
from worker.aws.sqs import Queue
from worker.domain.dead_letter import to_dead_letter
from worker.errors import AWSError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.scan import Scan


async def send_dead_letters(
    world: World, count: int, reason: str = "invalid", **changes: Any
) -> None:
    """Send numbered dead letters to the dead-letter queue."""
    for number in range(count):
        message = received_message(number, **{"body": body(number, reason=reason), **changes})
        dead_letter = to_dead_letter(message, reason, f"detail {number}", dead_at=clock())
        assert await world.dead_letters.send([dead_letter]) == [None]


async def scan_all(world: World, polls: int = 1) -> list[DeadLetter]:
    """Return all dead letters of one scan."""
    async with Scan(world.dead_letters, now=clock, polls=polls) as scan:
        return [each async for each in scan]


async def visible_and_in_flight(queue: Queue) -> tuple[int, int]:
    """Return the numbers of visible messages and of messages in flight."""
    state = await queue.state()
    return state.visible, state.in_flight


class FailingQueue(Queue):
    """A queue that fails some entries of its batches."""

    def __init__(self, queue: Queue, **failing: AWSError) -> None:
        super().__init__(queue._client, queue.url)
        self.failing = failing
        self.sizes: list[int] = []

    async def send(self, messages: Any) -> list[AWSError | None]:
        self.sizes.append(len(messages))
        return await self._some("send", messages, super().send)

    async def delete(self, messages: Any) -> list[AWSError | None]:
        return await self._some("delete", messages, super().delete)

    async def _some(self, operation: str, entries: Any, call: Any) -> list[AWSError | None]:
        error = self.failing.get(operation)
        bad = {id(each) for each in entries if error and '"event-3"' in each.body}
        good = [each for each in entries if id(each) not in bad]
        results = iter(await call(good) if good else [])
        return [error if id(each) in bad else next(results) for each in entries]


async def hide_elsewhere(world: World, seconds: int = 6000) -> set[str]:
    """Receive up to ten dead letters as another consumer; return their ids."""
    held = await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=seconds)
    return {each.message_id for each in held}
