"""Watch both queues and the ledger, and know at every moment what must hold."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.simulation.outages import Outages
from tests.simulation.sqs_messages import State, StoredMessage, size
from tests.simulation.traffic import HOPELESS, LATE, Kind, Sending
from tests.simulation.virtual_clock import START
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE
from worker.domain.evidence import timestamp, verify
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tests.simulation.faults import Faults
    from tests.simulation.simulated_queue import SimulatedQueue
    from tests.simulation.simulated_table import SimulatedTable
    from tests.simulation.trace import Trace

# Who calls; the tasks of a process inherit it, and so do calls that land late.
CALLER: ContextVar[str] = ContextVar("CALLER", default="producer")

# An answer may be this old when the dead letter that it causes arrives: retries and lost answers.
_ANSWER_AGE_SECONDS = 120.0
# Without trouble for so long, every message finds its place: a lease of a worker that died, the
# start of the next one, an unknown policy's time and the delays of its receives.
_ENOUGH_SECONDS = 300.0
# What the attribute of a dead letter takes at least, and at most without folded attributes.
_BARE_NOTE_BYTES = 200
_FULL_NOTE_BYTES = 1000
_NEVER_TRIED = (Kind.MALFORMED, Kind.INCOMPLETE, Kind.OVERSIZED, Kind.FUTURE)
# SQS's timestamps are rounded to it.
_MILLISECOND = 0.001
# What no dead letter may give as its cause: it passes, and is nothing that a message can help.
_REFUSALS = ("AccessDenied", "ExpiredToken", "UnrecognizedClient", "ResourceNotFound")


class SafetyError(AssertionError):
    """Something happened that must never happen."""


@dataclass(slots=True)
class Terms:
    """Hold what the auditor needs to know of the worker's settings."""

    max_attempts: int
    lease_seconds: int
    unknown_policy_seconds: float


@dataclass(slots=True)
class Audit:
    """Follow every message from its sending to its fate.

    Attributes:
        sendings: What was sent, by body.
        holders: Who was handed a message of the source queue, by receipt handle.
        handed_back: The handles by which a message was handed back.
        leased_at: When a handle's lease began or was extended last.
        claims: By caller, how to ask it whether it keeps a lease by a receipt handle.
        burials: The reasons with which a body was dead-lettered by a worker.
        expired: The bodies that SQS dropped when their time was up, and nobody could work.
        problems: What must never happen and did; noted, for the program may swallow exceptions.
    """

    source: SimulatedQueue
    dead_letters: SimulatedQueue
    store: SimulatedTable
    sqs_faults: Faults
    outages: Outages
    terms: Terms
    trace: Trace
    sendings: dict[str, Sending] = field(default_factory=dict)
    originals: dict[str, StoredMessage] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)
    handles: dict[int, str] = field(default_factory=dict)
    claims: dict[str, Callable[[str], bool]] = field(default_factory=dict)
    handed_back: set[str] = field(default_factory=set)
    leased_at: dict[str, float] = field(default_factory=dict)
    settling: set[str] = field(default_factory=set)
    burials: dict[str, Counter[str]] = field(default_factory=dict)
    policy_published_at: dict[str, float] = field(default_factory=dict)
    expired: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    happened: int = 0
    _audited: int = 0
    _waiting: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source.watcher = self._watch
        self.dead_letters.watcher = self._watch

    async def after(self, more: int, timeout_seconds: float) -> None:
        """Wait until so many more things have happened in the queues, or for so long."""
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self.happened + more, reached))
        await asyncio.wait([reached], timeout=timeout_seconds)
        reached.cancel()

    def settling_begins(self, handle: str) -> None:
        """Take in that somebody asks to delete or to hand back by a handle."""
        self.settling.add(handle)

    def settling_refused(self, handle: str) -> None:
        """Take in that a delete was refused: until it is permitted, the lease may be extended."""
        self.settling.discard(handle)

    def extending_begins(self, handle: str) -> None:
        """Take in that somebody asks for a longer lease."""
        if handle in self.settling:
            self._fail(f"the lease of {handle} was extended after its settling had begun")

    def is_settled(self, sending: Sending) -> bool:
        """Tell whether the ledger holds this acceptance, or another event in its place."""
        record = self.store.find(sending.key) if sending.key else None
        if record is None:
            return False
        same_event = record.item["event_id"] == sending.stated["event_id"]
        return not same_event or sending.is_stated_by(record.item)

    def is_conflict(self, sending: Sending) -> bool:
        """Tell whether the ledger holds the same event with other content."""
        record = self.store.find(sending.key) if sending.key else None
        return record is not None and not self.is_settled(sending)

    def bodies(self, queue: SimulatedQueue) -> set[str]:
        """Return what a queue holds; a deleted message that may reappear is not held."""
        return {
            message.body
            for message in queue.messages.values()
            if message.state not in (State.REAPPEARING, State.GONE)
        }

    def stranded(self, caller: str) -> list[str]:
        """Return the handles that a caller was given and neither deleted nor handed back."""
        return [
            message.receipt_handle
            for message in self.source.messages.values()
            if message.state is State.IN_FLIGHT
            and self.holders.get(message.receipt_handle) == caller
            and message.receipt_handle not in self.handed_back
        ]

    def check(self) -> None:
        """Raise SafetyError unless every message is where it should be.

        Raises:
            SafetyError: What is wrong.
        """
        self._check_ledger()
        for queue in (self.source, self.dead_letters):
            queue.expire()
        held = self.bodies(self.source) | self.bodies(self.dead_letters)
        for body, sending in self.sendings.items():
            if body not in held and body not in self.expired and not self.is_settled(sending):
                self._fail(f"lost: {sending.kind.value} {body[:200]}")
        self.problems += [alarm for alarm in self.trace.alarms if alarm not in self.problems]
        if self.problems:
            raise SafetyError("; ".join(self.problems[:5]))

    def _check_ledger(self) -> None:
        if len(self.store) == self._audited:
            return
        items = self.store.items()
        for item in items[self._audited :]:
            sources = [each for each in self._recordable() if each.is_stated_by(item)]
            if not sources:
                self._fail(f"recorded, and never sent so: {item}")
            elif item["received_at"] not in set().union(*map(self._sent_at, sources)):
                self._fail(f"recorded with another received_at than SQS states: {item}")
            for problem in verify(_plain(item)):
                self._fail(f"recorded, and its proof fails: {problem}: {item}")
        self._audited = len(items)

    def _sent_at(self, sending: Sending) -> set[str]:
        """Return when SQS took the messages with this body, as a record states it."""
        return {
            timestamp(datetime.fromtimestamp(round(message.sent_at * 1000) / 1000, UTC))
            for message in self.originals.values()
            if message.body == sending.body
        }

    def _recordable(self) -> Iterable[Sending]:
        return (sending for sending in self.sendings.values() if sending.key)

    def _watch(
        self, queue: SimulatedQueue, event: str, message: StoredMessage, seconds: float
    ) -> None:
        self.happened += 1
        for count, reached in self._waiting:
            if count <= self.happened and not reached.done():
                reached.set_result(None)
        self._waiting = [each for each in self._waiting if not each[1].done()]
        if self.trace.wanted:
            suffix = f" for {seconds:g} s" if event == "changed" else ""
            self.trace.tell(
                f"  {queue.name} #{message.number} {event}{suffix} by {CALLER.get()} "
                f"(receive {message.receive_count}) {message.body[:48]}"
            )
        if event == "expired":
            self._examine_expiry(queue, message)
        elif queue is self.source:
            self._watch_source(event, message, seconds)
        elif event == "sent":
            self._examine_burial(message)
        elif event == "deleted":
            self._examine_exhumation(message)

    def _watch_source(self, event: str, message: StoredMessage, seconds: float) -> None:
        if event == "sent":
            self.originals[message.message_id] = message
            sending = self.sendings.get(message.body)
            if sending is None:
                self._fail(f"sent back with another body: {message.body[:200]}")
            elif _unmarked(message.attributes) != sending.attributes:
                self._fail(f"sent back with other attributes: {message.attributes}")
        elif event == "handed out":
            self._examine_handing_out(message)
        elif event == "changed":
            self._examine_change(message.receipt_handle, seconds)
        elif event == "deleted":
            self._examine_deletion(message)

    def _examine_change(self, handle: str, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        # No lease is extended in its first third: a message may be handed back for as long as one.
        is_fresh = now - self.leased_at.get(handle, now) < self.terms.lease_seconds / 3
        if seconds != self.terms.lease_seconds or is_fresh:
            self.handed_back.add(handle)
        else:
            self.leased_at[handle] = now

    def _examine_expiry(self, queue: SimulatedQueue, message: StoredMessage) -> None:
        self.expired[message.body] += 1
        sent_at = message.sent_at - START.timestamp()
        calm_seconds = self.outages.calm_seconds(sent_at, sent_at + queue.retention_seconds)
        # Dead letters wait for a person, and nobody promises one in time.
        sending = self.sendings.get(message.body)
        # Nor in mending a wrong clock, which alone keeps what is in the future.
        waits = sending is not None and sending.kind is Kind.FUTURE
        if queue is self.source and calm_seconds >= _ENOUGH_SECONDS and not waits:
            self._fail(f"expired, with {calm_seconds:g} s to work on it: {message.body[:200]}")

    def _examine_handing_out(self, message: StoredMessage) -> None:
        before = self.handles.get(message.number, "")
        claim = self.claims.get(self.holders.get(before, ""))
        if claim and claim(before) and not self.sqs_faults.happened:
            self._fail(f"handed out again while {self.holders[before]} holds it: {before}")
        self.handles[message.number] = message.receipt_handle
        self.holders[message.receipt_handle] = CALLER.get()
        self.leased_at[message.receipt_handle] = asyncio.get_running_loop().time()

    def _examine_deletion(self, message: StoredMessage) -> None:
        sending = self.sendings.get(message.body)
        if sending is None or self.is_settled(sending):
            return
        # A replay may have sent it back meanwhile.
        if message.body not in self.burials or not self._is_held_besides(message):
            self._fail(f"deleted, neither recorded nor dead-lettered: {message.body[:200]}")

    def _examine_exhumation(self, letter: StoredMessage) -> None:
        sending = self.sendings.get(letter.body)
        if sending and not self.is_settled(sending) and not self._is_held_besides(letter):
            self._fail(f"a dead letter was deleted before it was sent back: {letter.body[:200]}")

    def _is_held_besides(self, message: StoredMessage) -> bool:
        return any(
            other is not message and other.body == message.body and other.state is not State.GONE
            for queue in (self.source, self.dead_letters)
            for other in queue.messages.values()
            if other.state is not State.REAPPEARING
        )

    def _examine_burial(self, letter: StoredMessage) -> None:
        sending = self.sendings.get(letter.body)
        if sending is None:
            self._fail(f"dead-lettered with another body: {letter.body[:200]}")
            return
        note = json.loads(letter.attributes.get(ATTRIBUTE, {}).get("StringValue", "{}"))
        attributes = {name: each for name, each in letter.attributes.items() if name != ATTRIBUTE}
        folded = {name: _unpacked(each) for name, each in note.get("attributes", {}).items()}
        if _unmarked(attributes | folded) != sending.attributes:
            self._fail(f"dead-lettered with other attributes: {letter.attributes}")
        self.burials.setdefault(letter.body, Counter())[note.get("reason", "unsaid")] += 1
        if "message_id" not in note:
            self._examine_short_note(letter, note, sending)
            return
        original = self.originals.get(note["message_id"])
        if original is None or original.body != letter.body:
            self._fail(f"dead-lettered under another message's id: {note}")
        elif not self._is_permitted(note, sending, original):
            self._fail(f"dead-lettered without cause: {sending.kind.value} {note}")

    def _examine_short_note(
        self, letter: StoredMessage, note: Mapping[str, Any], sending: Sending
    ) -> None:
        """Allow a note to be short, or absent, only where the largest message leaves no room."""
        room = MESSAGE_MAX_BYTES - size(letter.body, letter.attributes)
        if room > (_FULL_NOTE_BYTES if note else _BARE_NOTE_BYTES):
            self._fail(f"dead-lettered with {note}, and {room} bytes were left")
        if note.get("reason", HOPELESS.get(sending.kind)) != HOPELESS.get(sending.kind, ""):
            self._fail(f"dead-lettered without cause: {sending.kind.value} {note}")

    def _is_permitted(
        self, note: Mapping[str, Any], sending: Sending, original: StoredMessage
    ) -> bool:
        reason, count = note["reason"], note["receive_count"]
        if count > original.receive_count:
            return False
        burnt = count >= self.terms.max_attempts
        if reason == Reason.EXHAUSTED:
            refused = any(code in note["detail"] for code in _REFUSALS)
            return burnt and not refused and sending.kind not in _NEVER_TRIED
        if reason == Reason.CONFLICT:
            return self.is_conflict(sending)
        if reason == Reason.UNKNOWN_POLICY:
            return self._was_unknown(sending) and (burnt or self._was_waited_for(count, original))
        return bool(HOPELESS.get(sending.kind) == reason)

    def _was_unknown(self, sending: Sending) -> bool:
        if sending.kind is Kind.NO_POLICY:
            return True
        published_at = self.policy_published_at.get(LATE, float("inf"))
        now = asyncio.get_running_loop().time()
        return sending.kind is Kind.LATE_POLICY and now < published_at + _ANSWER_AGE_SECONDS

    def _was_waited_for(self, count: int, original: StoredMessage) -> bool:
        waited = asyncio.get_running_loop().time() - (
            original.first_received_at - START.timestamp()
        )
        return count >= 3 and waited >= self.terms.unknown_policy_seconds - _MILLISECOND

    def _fail(self, problem: str) -> None:
        self.trace.tell(f"!!! {problem}")
        self.problems.append(problem)


def _plain(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, "value", value) for name, value in item.items()}


def _unmarked(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a replay adds."""
    return {name: value for name, value in attributes.items() if name != REPLAYS_ATTRIBUTE}


def _unpacked(value: Mapping[str, str]) -> dict[str, Any]:
    if "Base64" in value:
        return {"DataType": value["DataType"], "BinaryValue": base64.b64decode(value["Base64"])}
    return {"DataType": value["DataType"], "StringValue": value["StringValue"]}
