"""Filters that select dead letters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from worker.operations.dead_letters.dead_letter import DeadLetter


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Conditions that a dead letter must meet; an empty condition matches everything.

    Attributes:
        ids: Ids of the dead letters or of their original messages.
        reasons: Reason codes.
        users: Users named in the body.
        policies: Policies named in the body.
        versions: Policy versions named in the body.
        since: Earliest `dead_at`, inclusive; timezone-aware.
        until: Latest `dead_at`, exclusive; timezone-aware.
        grep: Pattern to find in the body, the detail or an attribute.
        limit: Maximum number of dead letters. `matches` does not apply it.
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

    def total(self, depth: int) -> int | None:
        """Return how many dead letters match; None if only a scan can count them.

        Args:
            depth: Number of dead letters in the queue.
        """
        times = (self.since, self.until, self.grep)
        if any((self.reasons, self.users, self.policies, self.versions, *times)):
            return None
        count = len(self.ids) or depth
        return count if self.limit is None else min(count, self.limit)

    def matches(self, dead_letter: DeadLetter) -> bool:
        """Return whether a dead letter meets all conditions but the limit."""
        ids = {dead_letter.message_id, dead_letter.original_message_id}
        names = (
            (self.reasons, dead_letter.reason),
            (self.users, dead_letter.user_id),
            (self.policies, dead_letter.policy_id),
            (self.versions, dead_letter.version),
        )
        return (
            (not self.ids or not ids.isdisjoint(self.ids))
            and all(not wanted or value in wanted for wanted, value in names)
            and (self.since is None or dead_letter.dead_at >= self.since)
            and (self.until is None or dead_letter.dead_at < self.until)
            and (self.grep is None or any(map(self.grep.search, _texts(dead_letter))))
        )


def _texts(dead_letter: DeadLetter) -> Iterator[str]:
    yield dead_letter.message.body
    yield dead_letter.detail
    for name, value in dead_letter.message.attributes.items():
        yield name
        yield value.get("StringValue", "")
        yield bytes(value.get("BinaryValue", b"")).decode(errors="replace")
