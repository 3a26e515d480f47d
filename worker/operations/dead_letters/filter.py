"""Filters that select dead letters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from worker.operations.dead_letters.dead_letter import DeadLetter


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
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
    yield letter.message.body
    yield letter.detail
    for name, value in letter.message.attributes.items():
        yield name
        yield value.get("StringValue", "")
        yield bytes(value.get("BinaryValue", b"")).decode(errors="replace")
