"""Audit of what a record proves: hashes, text, origin and edits, without the worker's code."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.simulation.earlier_release import sha256_of_format_1
from tests.simulation.sqs_messages import StoredMessage
from tests.simulation.traffic import PUBLISHED, TEXTS, SentMessage, sha256
from worker.domain.dead_letter import REPLAYS_ATTRIBUTE

_ERASABLE = ("ip", "user_agent", "session_id")
_HIDDEN = frozenset({"record_sha256", *_ERASABLE, *(f"{name}_salt" for name in _ERASABLE)})

# TTL of a policy in the workers' cache, and the time that a write may take with its retries.
_CACHE_SECONDS = 300.0 + 120.0


def wrong_hashes(item: Mapping[str, Any]) -> Iterator[str]:
    """Compute the hashes of a record again, without the code that wrote it."""
    if item["record_format"] == "1":
        if sha256_of_format_1(item) != item["record_sha256"]:
            yield "record_sha256 is wrong"
        return
    hashed = {
        name: value if isinstance(value, str) else bytes(value).hex()
        for name, value in item.items()
        if name not in _HIDDEN
    }
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(text.encode()).digest() != bytes(item["record_sha256"]):
        yield "record_sha256 is wrong"
    for name in _ERASABLE:
        if name in item:
            content = b"%b%b\0%b" % (item[f"{name}_salt"], name.encode(), item[name].encode())
            if hashlib.sha256(content).digest() != bytes(item[f"{name}_commitment"]):
                yield f"{name}_commitment is wrong"


@dataclass(frozen=True, slots=True)
class PlannedEdit:
    """Edit that an operator's replay makes if it sends the message.

    Attributes:
        before: Body before the edit.
        by: Name of the operator.
        result: The edited message.
    """

    before: str
    by: str
    changed: frozenset[str]
    result: SentMessage


@dataclass(slots=True)
class Origins:
    """Messages of producers, edits of operators and published texts.

    Attributes:
        edited: Bodies that were sent with an operator's edit.
        earlier: Hashes of the records that an earlier release wrote before the run.
    """

    edited: set[str] = field(default_factory=set)
    earlier: set[str] = field(default_factory=set)
    _produced: dict[str, StoredMessage] = field(default_factory=dict)
    _replayed_at: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _edits: dict[str, list[PlannedEdit]] = field(default_factory=lambda: defaultdict(list))
    _languages: list[tuple[str, str, float]] = field(default_factory=list)

    def note_published(self, locale: str, text: str) -> int:
        """Note the publication of the next language and return its number."""
        now = asyncio.get_running_loop().time()
        self._languages.append((locale, sha256(text), now))
        return len(self._languages)

    @property
    def languages(self) -> int:
        """Number of published languages."""
        return len(self._languages)

    def published_at(self, text_sha256: str) -> float:
        """Return the time at which a text in a further language was published."""
        return next((at for _, each, at in self._languages if each == text_sha256), float("inf"))

    def plan_edit(self, edit: PlannedEdit) -> None:
        """Note an edit that is about to be sent."""
        self._edits[edit.result.body].append(edit)

    def note_sent(self, message: StoredMessage, *, by_producer: bool) -> SentMessage | None:
        """Note a message of the source queue; return the edited message if it is one."""
        if by_producer:
            self._produced[message.message_id] = message
            return None
        history = json.loads(message.attributes[REPLAYS_ATTRIBUTE]["StringValue"])
        self._replayed_at[message.body].add(_milliseconds(datetime.fromisoformat(history["at"])))
        planned = self._edits.get(message.body, [])
        self.edited.update(edit.before for edit in planned)
        return planned[0].result if planned else None

    def problems(
        self, item: Mapping[str, Any], bodies: Sequence[str], written_at: float
    ) -> Iterator[str]:
        """Return what a record claims and did not happen.

        Args:
            item: The record.
            bodies: Bodies that state its acceptance.
            written_at: Time when it was written.
        """
        if item["record_format"] == "1":
            sent = {_sent_at(each) for body in bodies for each in self._roots(body)}
            if item["record_sha256"] not in self.earlier and item["received_at"] not in sent:
                yield "its received_at is not SQS's"
            return
        if (item["policy_sha256"].hex(), item.get("policy_locale", "")) not in self._texts(
            item, written_at
        ):
            yield "its text is not the one that was accepted"
        if not any(self._has_origin(item, body) for body in bodies):
            yield "its origin is not that of its message"

    def _roots(self, body: str) -> Iterator[StoredMessage]:
        """Yield the messages of producers with this body, or with it before all edits."""
        yield from (each for each in self._produced.values() if each.body == body)
        for edit in self._edits.get(body, []):
            yield from self._roots(edit.before)

    def _has_origin(self, item: Mapping[str, Any], body: str) -> bool:
        """Return whether a message with this body has the origin and edits of a record."""
        replayed_at = item.get("replayed_at")
        if replayed_at is not None and replayed_at not in self._replayed_at.get(body, ()):
            return False
        edits = json.loads(item.get("edits", "[]"))
        if edits and replayed_at is None:
            return False
        first = self._produced.get(item["message_id"])
        return (
            first is not None
            and _sent_at(first) == item["received_at"]
            and _digest(item, first.body) == item["body_digest"].hex()
            and self._leads_to(item, edits, first.body, body)
        )

    def _leads_to(
        self, item: Mapping[str, Any], edits: Sequence[Mapping[str, Any]], first: str, body: str
    ) -> bool:
        """Return whether exactly these edits of a record lead from one body to another."""
        if not edits:
            return first == body
        last = edits[-1]
        return any(
            last["by"] == edit.by
            and frozenset(last["changed"]) == edit.changed
            and last["body_digest"] == _digest(item, edit.before)
            and self._leads_to(item, edits[:-1], first, edit.before)
            for edit in self._edits.get(body, [])
        )

    def _texts(self, item: Mapping[str, Any], written_at: float) -> set[tuple[str, str]]:
        """Return the hashes and languages of the texts to which an acceptance may be bound.

        A worker may not know the languages yet that were published last; those of longer ago than
        the TTL of its cache it must know.
        """
        default = (sha256(TEXTS[item["version"]]), "")
        texts = [(each, locale) for locale, each, _ in self._languages]
        if item["version"] != PUBLISHED:
            texts = []
        if "content_sha256" in item:
            return {each for each in (default, *texts) if each[0] == item["content_sha256"]}
        tag = item.get("locale", "").replace("_", "-").lower()
        ranges = ["-".join(tag.split("-")[:count]) for count in range(tag.count("-") + 1, 0, -1)]
        found = set()
        known_since = written_at - _CACHE_SECONDS
        least = sum(at < known_since for _, _, at in self._languages) if texts else 0
        for count in range(least, len(texts) + 1):
            known = {locale.lower(): (each, locale) for each, locale in texts[:count]}
            found.add(next((known[each] for each in ranges if each in known), default))
        return found


def _digest(item: Mapping[str, Any], body: str) -> str:
    """Return the digest of a body with the salts of a record."""
    salts = b"".join(item.get(f"{name}_salt", b"") for name in _ERASABLE)
    return hashlib.sha256(salts + hashlib.sha256(body.encode()).digest()).hexdigest()


def _milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sent_at(message: StoredMessage) -> str:
    return _milliseconds(datetime.fromtimestamp(round(message.sent_at * 1000) / 1000, UTC))
