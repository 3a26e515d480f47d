"""Audit of both queues and the table: checks the invariants at every event."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.origins import Origins, wrong_hashes
from tests.simulation.outages import Outages
from tests.simulation.sqs_messages import State, StoredMessage, size
from tests.simulation.traffic import HOPELESS, LATE, Kind, SentMessage
from tests.simulation.virtual_clock import START
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE
from worker.domain.evidence import verify
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.simulation.faults import Faults
    from tests.simulation.simulated_queue import SimulatedQueue
    from tests.simulation.simulated_table import SimulatedTable
    from tests.simulation.trace import Trace

# The calling process; inherited by its tasks and by calls that take effect later.
CALLER: ContextVar[str] = ContextVar("CALLER", default="producer")

# Maximum age of a response when the dead letter it causes arrives, because of retries.
_MAX_RESPONSE_AGE_SECONDS = 120.0
# Fault-free time within which every message is settled: the lease of a killed worker, the start of
# the next one, the wait for an unknown policy and the delays between its receives.
_PROCESSING_SECONDS = 300.0
# Size of a dead letter's attribute: at least, and at most without packed attributes.
_MIN_INFO_BYTES = 200
_FULL_INFO_BYTES = 1000
_NEVER_ATTEMPTED = (Kind.MALFORMED, Kind.INCOMPLETE, Kind.OVERSIZED, Kind.FUTURE)
# Resolution of SQS timestamps.
_MILLISECOND = 0.001
# Errors that must not cause a dead letter: they are temporary and not due to the message.
_DENIAL_CODES = ("AccessDenied", "ExpiredToken", "UnrecognizedClient", "ResourceNotFound")


class SafetyError(AssertionError):
    """An invariant is violated."""


@dataclass(slots=True)
class WorkerLimits:
    """Settings of the worker that the audit needs."""

    max_attempts: int
    lease_seconds: int
    unknown_policy_seconds: float


@dataclass(slots=True)
class Audit:
    """Audit that follows every message from its send to its outcome.

    Attributes:
        sent_messages: Messages that were sent, by body.
        holders: Process that received a message of the source queue, by receipt handle.
        returned: Receipt handles of returned messages.
        lease_started_at: Start or last extension of the lease, by receipt handle.
        lease_checks: Functions by process that return whether it holds a receipt handle.
        dead_letter_reasons: Reasons for which workers dead-lettered a body.
        expired: Bodies of messages that reached the retention period before they were settled.
        problems: Violations; collected because the program may swallow exceptions.
        origins: Messages of producers, edits of operators and published texts.
        earlier_release_until: Time until which a worker of an earlier release runs, which knows
            only the default text of a version.
    """

    source: SimulatedQueue
    dead_letters: SimulatedQueue
    store: SimulatedTable
    sqs_faults: Faults
    outages: Outages
    limits: WorkerLimits
    trace: Trace
    sent_messages: dict[str, SentMessage] = field(default_factory=dict)
    originals: dict[str, StoredMessage] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    handles: dict[int, str] = field(default_factory=dict)
    lease_checks: dict[str, Callable[[str], bool]] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)
    lease_started_at: dict[str, float] = field(default_factory=dict)
    settling: set[str] = field(default_factory=set)
    dead_letter_reasons: dict[str, Counter[str]] = field(default_factory=dict)
    policy_published_at: dict[str, float] = field(default_factory=dict)
    expired: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    origins: Origins = field(default_factory=Origins)
    earlier_release_until: float = 0.0
    event_count: int = 0
    _checked_count: int = 0
    _event_waiters: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source.observer = self._on_event
        self.dead_letters.observer = self._on_event

    async def wait_for_events(self, more: int, timeout_seconds: float) -> None:
        """Wait for a number of further queue events, or for the timeout."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._event_waiters.append((self.event_count + more, reached))
        await asyncio.wait([reached], timeout=timeout_seconds)
        reached.cancel()

    def note_settling(self, handle: str) -> None:
        """Note that a delete or return by a receipt handle was requested."""
        self.settling.add(handle)

    def note_settling_denied(self, handle: str) -> None:
        """Note that a delete was denied: until it is permitted, the lease may be extended."""
        self.settling.discard(handle)

    def note_extension(self, handle: str) -> None:
        """Note that a lease extension was requested."""
        if handle in self.settling:
            self._fail(f"the lease of {handle} was extended after its settling had begun")

    def is_settled(self, sent_message: SentMessage) -> bool:
        """Return whether this acceptance, or another event in its place, is recorded."""
        record = self.store.find(sent_message.key) if sent_message.key else None
        if record is None:
            return False
        same_event = record.item["event_id"] == sent_message.stated["event_id"]
        return not same_event or sent_message.is_stated_by(record.item)

    def is_done(self, sent_message: SentMessage) -> bool:
        """Return whether this acceptance is settled, or was sent with an operator's edit."""
        return sent_message.body in self.origins.edited or self.is_settled(sent_message)

    def is_conflict(self, sent_message: SentMessage) -> bool:
        """Return whether the same event is recorded with different content."""
        record = self.store.find(sent_message.key) if sent_message.key else None
        return record is not None and not self.is_settled(sent_message)

    def bodies(self, queue: SimulatedQueue) -> set[str]:
        """Return the bodies in a queue, except deleted messages that may reappear."""
        return {
            message.body
            for message in queue.messages.values()
            if message.state not in (State.REAPPEARING, State.REMOVED)
        }

    def left_in_flight(self, caller: str) -> list[str]:
        """Return receipt handles that a process received and neither deleted nor returned."""
        return [
            message.receipt_handle
            for message in self.source.messages.values()
            if message.state is State.IN_FLIGHT
            and self.holders.get(message.receipt_handle) == caller
            and message.receipt_handle not in self.returned
        ]

    def check(self) -> None:
        """Check that every message is recorded, in a queue or expired.

        Raises:
            SafetyError: An invariant is violated.
        """
        self._check_records()
        for queue in (self.source, self.dead_letters):
            queue.expire()
        held = self.bodies(self.source) | self.bodies(self.dead_letters)
        for body, sent_message in self.sent_messages.items():
            if body not in held and body not in self.expired and not self.is_done(sent_message):
                self._fail(f"lost: {sent_message.kind.value} {body[:200]}")
        self.problems += [
            event for event in self.trace.unexpected_events if event not in self.problems
        ]
        if self.problems:
            raise SafetyError("; ".join(self.problems[:5]))

    def _check_records(self) -> None:
        if len(self.store) == self._checked_count:
            return
        items = self.store.items()
        for item in map(_plain, items[self._checked_count :]):
            sources = [each for each in self._recordable() if each.is_stated_by(item)]
            problems = [*verify(item), *wrong_hashes(item)]
            if not sources:
                problems.append("never sent like this")
            written_at = self.store.written_at(item)
            problems += self.origins.problems(item, [each.body for each in sources], written_at)
            for problem in problems:
                self._fail(f"recorded, but {problem}: {item}")
        self._checked_count = len(items)

    def _recordable(self) -> Iterable[SentMessage]:
        return (sent_message for sent_message in self.sent_messages.values() if sent_message.key)

    def _on_event(
        self, queue: SimulatedQueue, event: str, message: StoredMessage, seconds: float
    ) -> None:
        self.event_count += 1
        for count, reached in self._event_waiters:
            if count <= self.event_count and not reached.done():
                reached.set_result(None)
        self._event_waiters = [each for each in self._event_waiters if not each[1].done()]
        if self.trace.is_enabled:
            suffix = f" for {seconds:g} s" if event == "changed" else ""
            self.trace.add(
                f"  {queue.name} #{message.number} {event}{suffix} by {CALLER.get()} "
                f"(receive {message.receive_count}) {message.body[:48]}"
            )
        if event == "expired":
            self._check_expiry(queue, message)
        elif queue is self.source:
            self._on_source_event(event, message, seconds)
        elif event == "sent":
            self._check_dead_letter(message)
        elif event == "deleted":
            self._check_dead_letter_delete(message)

    def _on_source_event(self, event: str, message: StoredMessage, seconds: float) -> None:
        if event == "sent":
            self.originals[message.message_id] = message
            edited = self.origins.note_sent(message, by_producer=CALLER.get() == "producer")
            if edited is not None:
                self.sent_messages.setdefault(message.body, edited)
            sent_message = self.sent_messages.get(message.body)
            if sent_message is None:
                self._fail(f"sent back with another body: {message.body[:200]}")
            elif _unmarked(message.attributes) != sent_message.attributes:
                self._fail(f"sent back with other attributes: {message.attributes}")
        elif event == "received":
            self._check_receive(message)
        elif event == "changed":
            self._note_visibility_change(message.receipt_handle, seconds)
        elif event == "deleted":
            self._check_delete(message)

    def _note_visibility_change(self, handle: str, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        # No lease is extended in its first third, but a return may last as long as a lease.
        is_fresh = now - self.lease_started_at.get(handle, now) < self.limits.lease_seconds / 3
        if seconds != self.limits.lease_seconds or is_fresh:
            self.returned.add(handle)
        else:
            self.lease_started_at[handle] = now

    def _check_expiry(self, queue: SimulatedQueue, message: StoredMessage) -> None:
        self.expired[message.body] += 1
        sent_at = message.sent_at - START.timestamp()
        fault_free_seconds = self.outages.fault_free_seconds(
            sent_at, sent_at + queue.retention_seconds
        )
        # Dead letters may expire: nothing guarantees that they are replayed in time.
        sent_message = self.sent_messages.get(message.body)
        # So may messages from the future, which wait until the worker's clock is corrected.
        waits = sent_message is not None and sent_message.kind is Kind.FUTURE
        if queue is self.source and fault_free_seconds >= _PROCESSING_SECONDS and not waits:
            self._fail(
                f"expired, with {fault_free_seconds:g} s to work on it: {message.body[:200]}"
            )

    def _check_receive(self, message: StoredMessage) -> None:
        before = self.handles.get(message.number, "")
        claim = self.lease_checks.get(self.holders.get(before, ""))
        if claim and claim(before) and not self.sqs_faults.injected:
            self._fail(f"received again while {self.holders[before]} holds it: {before}")
        self.handles[message.number] = message.receipt_handle
        self.holders[message.receipt_handle] = CALLER.get()
        self.lease_started_at[message.receipt_handle] = asyncio.get_running_loop().time()

    def _check_delete(self, message: StoredMessage) -> None:
        sent_message = self.sent_messages.get(message.body)
        if sent_message is None or self.is_done(sent_message):
            return
        # A replay may have sent it back meanwhile.
        if message.body not in self.dead_letter_reasons or not self._has_another_copy(message):
            self._fail(f"deleted, neither recorded nor dead-lettered: {message.body[:200]}")

    def _check_dead_letter_delete(self, dead_letter: StoredMessage) -> None:
        sent_message = self.sent_messages.get(dead_letter.body)
        if (
            sent_message
            and not self.is_done(sent_message)
            and not self._has_another_copy(dead_letter)
        ):
            self._fail(
                f"a dead letter was deleted before it was sent back: {dead_letter.body[:200]}"
            )

    def _has_another_copy(self, message: StoredMessage) -> bool:
        return any(
            other is not message and other.body == message.body and other.state is not State.REMOVED
            for queue in (self.source, self.dead_letters)
            for other in queue.messages.values()
            if other.state is not State.REAPPEARING
        )

    def _check_dead_letter(self, dead_letter: StoredMessage) -> None:
        sent_message = self.sent_messages.get(dead_letter.body)
        if sent_message is None:
            self._fail(f"dead-lettered with another body: {dead_letter.body[:200]}")
            return
        info = json.loads(dead_letter.attributes.get(ATTRIBUTE, {}).get("StringValue", "{}"))
        attributes = {
            name: each for name, each in dead_letter.attributes.items() if name != ATTRIBUTE
        }
        packed = {name: _unpacked(each) for name, each in info.get("attributes", {}).items()}
        if _unmarked(attributes | packed) != sent_message.attributes:
            self._fail(f"dead-lettered with other attributes: {dead_letter.attributes}")
        self.dead_letter_reasons.setdefault(dead_letter.body, Counter())[
            info.get("reason", "missing")
        ] += 1
        if "message_id" not in info:
            self._check_short_info(dead_letter, info, sent_message)
            return
        original = self.originals.get(info["message_id"])
        if original is None or original.body != dead_letter.body:
            self._fail(f"dead-lettered under another message's id: {info}")
        elif not self._is_justified(info, sent_message, original):
            self._fail(f"dead-lettered without cause: {sent_message.kind.value} {info}")

    def _check_short_info(
        self, dead_letter: StoredMessage, info: Mapping[str, Any], sent_message: SentMessage
    ) -> None:
        """Allow a short or missing attribute only if the message leaves too little space."""
        room = MESSAGE_MAX_BYTES - size(dead_letter.body, dead_letter.attributes)
        if room > (_FULL_INFO_BYTES if info else _MIN_INFO_BYTES):
            self._fail(f"dead-lettered with {info}, although {room} bytes are free")
        if info.get("reason", HOPELESS.get(sent_message.kind)) != HOPELESS.get(
            sent_message.kind, ""
        ):
            self._fail(f"dead-lettered without cause: {sent_message.kind.value} {info}")

    def _is_justified(
        self, info: Mapping[str, Any], sent_message: SentMessage, original: StoredMessage
    ) -> bool:
        reason, count = info["reason"], info["receive_count"]
        if count > original.receive_count:
            return False
        is_exhausted = count >= self.limits.max_attempts
        if reason == Reason.EXHAUSTED:
            is_denied = any(code in info["detail"] for code in _DENIAL_CODES)
            return is_exhausted and not is_denied and sent_message.kind not in _NEVER_ATTEMPTED
        if reason == Reason.CONFLICT:
            return self.is_conflict(sent_message)
        if reason == Reason.UNKNOWN_POLICY:
            return self._was_unknown(sent_message) and (
                is_exhausted or self._waited_long_enough(count, original)
            )
        if reason == Reason.CONTENT_MISMATCH and sent_message.kind is Kind.TRANSLATED:
            return self._was_unknown(sent_message)
        return bool(HOPELESS.get(sent_message.kind) == reason)

    def _was_unknown(self, sent_message: SentMessage) -> bool:
        if sent_message.kind is Kind.NO_POLICY:
            return True
        if sent_message.kind is Kind.TRANSLATED:
            published_at = self.origins.published_at(sent_message.stated["content_sha256"])
            published_at = max(published_at, self.earlier_release_until)
        elif sent_message.kind is Kind.LATE_POLICY:
            published_at = self.policy_published_at.get(LATE, float("inf"))
        else:
            return False
        return asyncio.get_running_loop().time() < published_at + _MAX_RESPONSE_AGE_SECONDS

    def _waited_long_enough(self, count: int, original: StoredMessage) -> bool:
        waited = asyncio.get_running_loop().time() - (
            original.first_received_at - START.timestamp()
        )
        return count >= 3 and waited >= self.limits.unknown_policy_seconds - _MILLISECOND

    def _fail(self, problem: str) -> None:
        self.trace.add(f"!!! {problem}")
        self.problems.append(problem)


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in item.items()}


def _unmarked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes without the replay history, and those that were moved into it."""
    others = dict(attributes)
    history = json.loads(others.pop(REPLAYS_ATTRIBUTE, {}).get("StringValue", "{}"))
    moved = {name: _unpacked(each) for name, each in history.get("attributes", {}).items()}
    return others | moved


def _unpacked(value: Mapping[str, str]) -> dict[str, Any]:
    if "Base64" in value:
        return {"DataType": value["DataType"], "BinaryValue": base64.b64decode(value["Base64"])}
    return {"DataType": value["DataType"], "StringValue": value["StringValue"]}
