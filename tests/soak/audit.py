"""The conservation check: what was sent against what an independent reader finds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.messages import Sent

Key = tuple[str, str]
_NAMED: Final = (
    "event_id", "user_id", "policy_id", "version", "accepted_at", "content_sha256", "locale",
    "method", "channel", "ip", "user_agent", "session_id", "on_behalf_of",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the number that its message went with, its body, and its reason."""

    number: int | None
    body: str
    reason: str | None


@dataclass(slots=True)
class Verdict:
    """What became of everything.

    Attributes:
        lost: one line for each message that is nowhere, or dead for no good reason.
        doubled: one line for each fact that is kept twice, or both kept and dead.
        altered: one line for everything that is not as it was sent.
        dead_again: dead letters beyond the first of a message; a worker that is killed between
            the send and the delete leaves one, and nothing can prevent it.
    """

    recorded: int = 0
    duplicates: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    dead_again: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Say whether nothing is lost, doubled or altered."""
        return not (self.lost or self.doubled or self.altered)


def audit(
    sent: Sequence[Sent], items: Sequence[Mapping[str, Any]], letters: Sequence[Letter]
) -> Verdict:
    """Account for every message.

    Args:
        sent: everything that was sent.
        items: the table.
        letters: the dead-letter queue.
    """
    verdict = Verdict(recorded=len(items))
    dead = _dead(sent, letters, verdict)
    facts: dict[Key, list[Sent]] = defaultdict(list)
    for message in sent:
        if message.fact is not None:
            facts[_key(message.fact)].append(message)
        elif message.number not in dead:
            verdict.lost.append(f"{message.number}: no dead letter ({message.reason})")
    kept = _kept(items, facts, verdict)
    for key, messages in facts.items():
        for message in messages:
            _judge(message, kept.get(key), dead.get(message.number), verdict)
    # One message of each key is the recorded one.
    verdict.duplicates -= sum(key in kept for key in facts)
    return verdict


def _key(fact: Mapping[str, Any]) -> Key:
    return fact["user_id"], f"{fact['policy_id']}#{fact['version']}"


def _dead(
    sent: Sequence[Sent], letters: Sequence[Letter], verdict: Verdict
) -> dict[int, str | None]:
    """Check every dead letter against its message, and give the reasons by number."""
    by_number = {message.number: message for message in sent}
    reasons: dict[int, str | None] = {}
    for letter in letters:
        message = by_number.get(letter.number) if letter.number is not None else None
        if message is None or letter.body != message.body:
            verdict.altered.append(f"dead letter {letter.number}: {letter.body[:80]!r}")
        elif message.number in reasons:
            verdict.dead_again += 1
        else:
            reasons[message.number] = letter.reason
            verdict.dead[str(letter.reason)] += 1
            if message.reason not in (None, letter.reason):
                verdict.altered.append(
                    f"{message.number}: died of {letter.reason}, not {message.reason}"
                )
    return reasons


def _kept(
    items: Sequence[Mapping[str, Any]], facts: Mapping[Key, Sequence[Sent]], verdict: Verdict
) -> dict[Key, Mapping[str, Any]]:
    """Check every item against the facts that were sent for its key."""
    kept: dict[Key, Mapping[str, Any]] = {}
    events = Counter(str(item["event_id"]) for item in items)
    verdict.doubled += [f"{event}: {count} items" for event, count in events.items() if count > 1]
    for item in items:
        key = (str(item["user_id"]), str(item["policy_version"]))
        if key in kept:
            verdict.doubled.append(f"{key}: two items")
        kept[key] = item
        if not any(_states(item, message) for message in facts.get(key, [])):
            verdict.altered.append(f"{key}: the item states what nobody sent")
    return kept


def _states(item: Mapping[str, Any], message: Sent) -> bool:
    assert message.fact is not None
    named = {name: message.fact[name] for name in _NAMED if name in message.fact}
    extra = {name: value for name, value in message.fact.items() if name not in _NAMED}
    stated = {name: item[name] for name in _NAMED if name in item}
    return stated == named and json.loads(item.get("extra", "{}")) == extra


def _judge(
    message: Sent, item: Mapping[str, Any] | None, reason: str | None, verdict: Verdict
) -> None:
    assert message.fact is not None
    if item is None:
        verdict.lost.append(f"{message.number}: not recorded; dead letter: {reason}")
        return
    same_event = item["event_id"] == message.fact["event_id"]
    if same_event and not _states(item, message):
        if reason != "conflict":
            verdict.lost.append(f"{message.number}: contradicts the record, and is not dead")
    elif reason is not None:
        verdict.doubled.append(f"{message.number}: recorded, and dead of {reason}")
    else:
        verdict.duplicates += 1
