"""Messages of one simulated queue and their states."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from tests.simulation.aws_errors import sqs_error
from tests.simulation.sqs_messages import State, StoredMessage, body_md5, to_response
from tests.simulation.virtual_clock import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.simulation.faults import Faults

MAX_VISIBILITY_SECONDS = 43_200
_PASSED_OVER_SECONDS = 0.1
_START_TIMESTAMP = START.timestamp()
_DEFAULTS = {
    "VisibilityTimeout": "30",
    "MessageRetentionPeriod": "345600",
    "DelaySeconds": "0",
    "ReceiveMessageWaitTimeSeconds": "0",
    "MaximumMessageSize": "1048576",
}


class QueueObserver(Protocol):
    """Callback for every event of a queue."""

    def __call__(
        self, queue: SimulatedQueue, event: str, message: StoredMessage, seconds: float, /
    ) -> None:
        """Handle an event without changing the queue."""


class SimulatedQueue:
    """Standard queue; every method is one atomic step.

    Args:
        name: The queue's name.
        url: Its URL.
        arn: Its ARN.
        faults: Faults to inject.
        queue_by_arn: Finds the dead-letter queue.
    """

    def __init__(
        self,
        name: str,
        url: str,
        arn: str,
        faults: Faults,
        queue_by_arn: Callable[[str], SimulatedQueue | None],
    ) -> None:
        self.name = name
        self.url = url
        self.arn = arn
        self.messages: dict[int, StoredMessage] = {}
        self.expired: list[StoredMessage] = []
        self.received_count = 0
        self.observer: QueueObserver | None = None
        self._faults = faults
        self._queue_by_arn = queue_by_arn
        self._visible: deque[StoredMessage] = deque()
        self._hidden: list[tuple[float, int, StoredMessage]] = []
        self._pushes = 0
        self._next_number = 0
        self._waiters: list[asyncio.Future[None]] = []
        self.configure(_DEFAULTS)

    def configure(self, attributes: Mapping[str, str]) -> None:
        """Set queue attributes."""
        self.attributes = {**getattr(self, "attributes", {}), **attributes}
        self._visibility_seconds = int(self.attributes["VisibilityTimeout"])
        self.retention_seconds = int(self.attributes["MessageRetentionPeriod"])
        self._delay_seconds = int(self.attributes["DelaySeconds"])
        self.wait_seconds = int(self.attributes["ReceiveMessageWaitTimeSeconds"])
        policy = json.loads(self.attributes.get("RedrivePolicy") or "{}")
        self._dead_letters_arn: str | None = policy.get("deadLetterTargetArn")
        self._max_receive_count = int(policy.get("maxReceiveCount", 0))

    def send(
        self,
        body: str,
        attributes: Mapping[str, Any],
        system_attributes: dict[str, str],
        delay_seconds: int | None,
    ) -> StoredMessage:
        """Add a message."""
        number = self._next()
        message = StoredMessage(
            number=number,
            message_id=f"{number:08x}-0000-4000-8000-{_digits(self.name)}",
            body=body,
            body_md5=body_md5(body),
            attributes={name: dict(value) for name, value in attributes.items()},
            system_attributes=system_attributes,
            sent_at=_now() + _START_TIMESTAMP,
        )
        delay = self._delay_seconds if delay_seconds is None else delay_seconds
        self._add(message, delay)
        self._notify("sent", message)
        return message

    def receive(
        self,
        limit: int,
        visibility_seconds: int | None,
        attribute_names: Iterable[str] = (),
        system_attribute_names: Iterable[str] = (),
    ) -> list[dict[str, Any]]:
        """Receive up to `limit` visible messages and hide them."""
        self._show_due()
        seconds = self._visibility_seconds if visibility_seconds is None else visibility_seconds
        responses: list[dict[str, Any]] = []
        for _ in range(len(self._visible)):
            if len(responses) == limit:
                break
            message = self._visible.popleft()
            if message.state is not State.VISIBLE or self._was_moved(message):
                continue
            if self._faults.happens("out_of_order"):
                self._visible.append(message)
                continue
            self._receive(message, seconds)
            responses.append(to_response(message, attribute_names, system_attribute_names))
        return responses

    def delete(self, operation: str, receipt_handle: str) -> None:
        """Delete by receipt handle; an old handle succeeds without deleting."""
        message = self._find(operation, receipt_handle)
        if message is None or message.receipt_handle != receipt_handle:
            return
        self._notify("deleted", message)
        if self._faults.happens("reappearance"):
            delay = self._faults.up_to(self._faults.durations.reappearance_seconds)
            message.receipt_handle = ""
            self._hide(message, State.REAPPEARING, delay)
        else:
            self._remove(message)

    def change_visibility(self, operation: str, receipt_handle: str, seconds: int) -> None:
        """Hide a message that is in flight for `seconds` from now."""
        message = self._find(operation, receipt_handle)
        if message is None or message.state is State.REAPPEARING:
            raise sqs_error(
                operation,
                "InvalidParameterValueException",
                f"Value {receipt_handle} for parameter ReceiptHandle is invalid. Reason: Message "
                "does not exist or is not available for visibility timeout change.",
            )
        if message.receipt_handle != receipt_handle:
            raise sqs_error(operation, "ReceiptHandleIsInvalid")
        self._show_due()
        if message.state is not State.IN_FLIGHT:
            raise sqs_error(operation, "MessageNotInflight")
        if _now() + seconds > message.received_at + MAX_VISIBILITY_SECONDS:
            raise sqs_error(
                operation,
                "InvalidParameterValueException",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Total "
                "VisibilityTimeout for the message is beyond the limit [43200 seconds].",
            )
        self._hide(message, State.IN_FLIGHT, seconds)
        self._notify("changed", message, seconds)

    def counts(self) -> dict[str, str]:
        """Return the number of messages by state, as queue attributes."""
        self._show_due()
        self.expire()
        states = Counter(message.state for message in self.messages.values())
        return {
            "ApproximateNumberOfMessages": str(states[State.VISIBLE]),
            "ApproximateNumberOfMessagesNotVisible": str(states[State.IN_FLIGHT]),
            "ApproximateNumberOfMessagesDelayed": str(states[State.DELAYED]),
        }

    def expire(self) -> None:
        """Remove messages older than the retention period, even those in flight."""
        for message in list(self.messages.values()):
            self._expire(message)

    def add_moved(self, message: StoredMessage, source_arn: str) -> None:
        """Add a message that the redrive policy moved, with its id and original sent time."""
        resets = self._faults.happens("redrive_resets_count")
        moved = replace(
            message,
            number=self._next(),
            receive_count=0 if resets else message.receive_count,
            first_received_at=0.0,
            receipt_handle="",
            system_attributes=message.system_attributes | {"DeadLetterQueueSourceArn": source_arn},
        )
        self._add(moved, 0)
        self._notify("moved", moved)

    async def wait_for_arrival(self, deadline: float) -> None:
        """Wait until something may have become visible, or until the deadline."""
        loop = asyncio.get_running_loop()
        self._forget_stale()
        wake_at = min(deadline, self._hidden[0][0]) if self._hidden else deadline
        if self._visible:  # skipped by out_of_order
            wake_at = min(wake_at, loop.time() + _PASSED_OVER_SECONDS)
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(wake_at, _wake, waiter)
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.remove(waiter)

    def _next(self) -> int:
        self._next_number += 1
        return self._next_number

    def _add(self, message: StoredMessage, delay_seconds: float) -> None:
        self.messages[message.number] = message
        if delay_seconds:
            self._hide(message, State.DELAYED, delay_seconds)
        else:
            self._show(message)

    def _show(self, message: StoredMessage) -> None:
        message.state = State.VISIBLE
        self._visible.append(message)
        self._wake_all()

    def _hide(self, message: StoredMessage, state: State, seconds: float) -> None:
        message.state = state
        message.visible_at = _now() + seconds
        self._pushes += 1
        heapq.heappush(self._hidden, (message.visible_at, self._pushes, message))
        if self._waiters and self._hidden[0][2] is message:
            self._wake_all()

    def _receive(self, message: StoredMessage, visibility_seconds: int) -> None:
        now = _now()
        self.received_count += 1
        message.receive_count += 1
        message.received_at = now
        message.first_received_at = message.first_received_at or now + _START_TIMESTAMP
        message.receipt_handle = f"{self.name}:{message.number}:{self.received_count}"
        self._notify("received", message)
        if self._faults.happens("duplicate_receive"):
            # Sometimes at once, so that one response contains the message twice.
            back = self._visible.appendleft if self._faults.coin() else self._visible.append
            back(message)
            self._wake_all()
        else:
            self._hide(message, State.IN_FLIGHT, visibility_seconds)

    def _show_due(self) -> None:
        now = _now()
        while self._hidden and self._hidden[0][0] <= now:
            until, _, message = heapq.heappop(self._hidden)
            if _stale(until, message):
                continue
            if message.state is State.REAPPEARING and not self._faults.active:
                self._remove(message)
                continue
            self._show(message)

    def _forget_stale(self) -> None:
        while self._hidden and _stale(self._hidden[0][0], self._hidden[0][2]):
            heapq.heappop(self._hidden)

    def _was_moved(self, message: StoredMessage) -> bool:
        if self._expire(message):
            return True
        if not self._max_receive_count or message.receive_count < self._max_receive_count:
            return False
        dead_letters = self._queue_by_arn(self._dead_letters_arn or "")
        if dead_letters is None:
            return False
        self._remove(message)
        dead_letters.add_moved(message, self.arn)
        return True

    def _expire(self, message: StoredMessage) -> bool:
        if _now() + _START_TIMESTAMP < message.sent_at + self.retention_seconds:
            return False
        deleted = message.state is State.REAPPEARING
        self._remove(message)
        if not deleted:
            self.expired.append(message)
            self._notify("expired", message)
        return True

    def _remove(self, message: StoredMessage) -> None:
        message.state = State.REMOVED
        del self.messages[message.number]

    def _find(self, operation: str, receipt_handle: str) -> StoredMessage | None:
        name, _, rest = receipt_handle.rpartition(":")[0].rpartition(":")
        if name != self.name or not rest.isdecimal() or int(rest) > self._next_number:
            raise sqs_error(
                operation,
                "ReceiptHandleIsInvalid",
                f'The input receipt handle "{receipt_handle}" is not a valid receipt handle.',
            )
        message = self.messages.get(int(rest))
        return None if message is None or self._expire(message) else message

    def _notify(self, event: str, message: StoredMessage, seconds: float = 0.0) -> None:
        if self.observer is not None:
            self.observer(self, event, message, seconds)

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            _wake(waiter)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _stale(until: float, message: StoredMessage) -> bool:
    hidden = (State.DELAYED, State.IN_FLIGHT, State.REAPPEARING)
    return message.state not in hidden or message.visible_at != until


def _now() -> float:
    return asyncio.get_running_loop().time()


def _digits(name: str) -> str:
    return body_md5(name)[:12]
