"""Audit: compares the messages sent with what an independent reader finds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.messages import SentMessage

Key = tuple[str, str]
_NAMED: Final = (
    "event_id", "user_id", "policy_id", "version", "accepted_at", "content_sha256", "locale",
    "method", "channel", "ip", "user_agent", "session_id", "on_behalf_of",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Dead letter with the number of its message, its body and its reason."""

    number: int | None
    body: str
    reason: str | None


@dataclass(slots=True)
class AuditResult:
    """Result of the audit.

    Attributes:
        lost: One line for each message that is missing or dead-lettered without cause.
        duplicated: One line for each fact recorded twice, or both recorded and dead-lettered.
        altered: One line for each item or body that differs from what was sent.
        repeated_dead_letters: Dead letters beyond the first of a message. A worker killed between
            the send and the delete leaves one; this is unavoidable.
    """

    recorded: int = 0
    duplicates: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    repeated_dead_letters: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether nothing is lost, duplicated or altered."""
        return not (self.lost or self.duplicated or self.altered)


def audit(
    sent: Sequence[SentMessage],
    items: Sequence[Mapping[str, Any]],
    dead_letters: Sequence[DeadLetter],
) -> AuditResult:
    """Check every message.

    Args:
        sent: All messages sent.
        items: Items of the table.
        dead_letters: the dead-letter queue.
    """
    result = AuditResult(recorded=len(items))
    reasons = _dead_letters(sent, dead_letters, result)
    facts: dict[Key, list[SentMessage]] = defaultdict(list)
    for message in sent:
        if message.fact is not None:
            facts[_key(message.fact)].append(message)
        elif message.number not in reasons:
            result.lost.append(f"{message.number}: no dead letter ({message.reason})")
    items_by_key = _check_items(items, facts, result)
    for key, messages in facts.items():
        for message in messages:
            _check_message(message, items_by_key.get(key), reasons.get(message.number), result)
    # One message of each key is the recorded one.
    result.duplicates -= sum(key in items_by_key for key in facts)
    return result


def _key(fact: Mapping[str, Any]) -> Key:
    return fact["user_id"], f"{fact['policy_id']}#{fact['version']}"


def _dead_letters(
    sent: Sequence[SentMessage], dead_letters: Sequence[DeadLetter], result: AuditResult
) -> dict[int, str | None]:
    """Check every dead letter against its message, and return the reasons by number."""
    by_number = {message.number: message for message in sent}
    reasons: dict[int, str | None] = {}
    for dead_letter in dead_letters:
        message = by_number.get(dead_letter.number) if dead_letter.number is not None else None
        if message is None or dead_letter.body != message.body:
            result.altered.append(f"dead letter {dead_letter.number}: {dead_letter.body[:80]!r}")
        elif message.number in reasons:
            result.repeated_dead_letters += 1
        else:
            reasons[message.number] = dead_letter.reason
            result.reasons[str(dead_letter.reason)] += 1
            if message.reason not in (None, dead_letter.reason):
                result.altered.append(
                    f"{message.number}: dead-lettered as {dead_letter.reason}, not {message.reason}"
                )
    return reasons


def _check_items(
    items: Sequence[Mapping[str, Any]],
    facts: Mapping[Key, Sequence[SentMessage]],
    result: AuditResult,
) -> dict[Key, Mapping[str, Any]]:
    """Check every item against the facts sent for its key."""
    items_by_key: dict[Key, Mapping[str, Any]] = {}
    events = Counter(str(item["event_id"]) for item in items)
    result.duplicated += [f"{event}: {count} items" for event, count in events.items() if count > 1]
    for item in items:
        key = (str(item["user_id"]), str(item["policy_version"]))
        if key in items_by_key:
            result.duplicated.append(f"{key}: two items")
        items_by_key[key] = item
        if not any(_states(item, message) for message in facts.get(key, [])):
            result.altered.append(f"{key}: the item has content that was never sent")
    return items_by_key


def _states(item: Mapping[str, Any], message: SentMessage) -> bool:
    assert message.fact is not None
    named = {name: message.fact[name] for name in _NAMED if name in message.fact}
    extra = {name: value for name, value in message.fact.items() if name not in _NAMED}
    stated = {name: item[name] for name in _NAMED if name in item}
    return stated == named and json.loads(item.get("extra", "{}")) == extra


def _check_message(
    message: SentMessage, item: Mapping[str, Any] | None, reason: str | None, result: AuditResult
) -> None:
    assert message.fact is not None
    if item is None:
        result.lost.append(f"{message.number}: not recorded; reason of its dead letter: {reason}")
        return
    same_event = item["event_id"] == message.fact["event_id"]
    if same_event and not _states(item, message):
        if reason != "conflict":
            result.lost.append(
                f"{message.number}: contradicts the record, but is not dead-lettered"
            )
    elif reason is not None:
        result.duplicated.append(f"{message.number}: recorded, and dead-lettered as {reason}")
    else:
        result.duplicates += 1
