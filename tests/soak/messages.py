"""Generated messages with their expected outcomes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from random import Random
from typing import Any, Final

POLICY: Final = "acceptable-use"
VERSIONS: Final = ("2026-01", "2026-02")
SHA256: Final = "ab" * 32
_REMEMBERED: Final = 200


@dataclass(frozen=True, slots=True)
class SentMessage:
    """Generated message.

    Attributes:
        number: Number that is sent as a message attribute.
        fact: Fields of the acceptance, if it can be recorded.
        reason: Reason of its dead letter, if it cannot be recorded.
    """

    number: int
    body: str
    fact: dict[str, Any] | None = None
    reason: str | None = None


class MessageGenerator:
    """Generator of messages of every kind.

    Args:
        random: Source of all choices.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0
        self._facts: list[dict[str, Any]] = []
        self._kinds = {
            self._valid: 60,
            self._enveloped: 12,
            self._repeated: 8,
            self._second_event: 5,
            self._conflicting: 5,
            self._malformed: 3,
            self._invalid: 3,
            self._unpublished: 2,
            self._mismatching: 2,
        }

    def generate(self) -> SentMessage:
        """Return the next message."""
        self._number += 1
        kinds = list(self._kinds) if self._facts else [self._valid]
        weights = [self._kinds[kind] for kind in kinds]
        return self._random.choices(kinds, weights)[0]()

    def _stated(self, **changes: Any) -> dict[str, Any]:
        return {
            "event_id": f"event-{self._number}",
            "user_id": f"user-{self._number}",
            "policy_id": POLICY,
            "version": self._random.choice(VERSIONS),
            "accepted_at": "2026-01-15T10:00:00Z",
            "content_sha256": SHA256,
            "ip": "203.0.113.7",
            **changes,
        }

    def _remember(self, fact: dict[str, Any]) -> dict[str, Any]:
        self._facts.append(fact)
        del self._facts[:-_REMEMBERED]
        return fact

    def _sent(self, fact: dict[str, Any], body: str | None = None) -> SentMessage:
        return SentMessage(self._number, body or json.dumps(fact), fact=fact)

    def _unrecordable(self, content: Any, reason: str) -> SentMessage:
        body = content if isinstance(content, str) else json.dumps(content)
        return SentMessage(self._number, body, reason=reason)

    def _valid(self) -> SentMessage:
        kinds: list[dict[str, Any]] = [
            {},
            {"channel": "web", "user_agent": "Ünïcode ✓"},
            {"later_field": {"n": [self._number, None]}},
            {"padding": "x" * 20_000},
        ]
        chosen = self._random.choices(kinds, [10, 5, 4, 1])[0]
        return self._sent(self._remember(self._stated(**chosen)))

    def _enveloped(self) -> SentMessage:
        fact = self._remember(self._stated())
        inner = json.dumps(fact)
        event = {"specversion": "1.0", "id": "1", "source": "/app", "type": "accepted"}
        encoded = base64.b64encode(inner.encode()).decode()
        envelope = self._random.choice(
            [
                event | {"data": fact},
                event | {"data_base64": encoded},
                {"Type": "Notification", "TopicArn": "arn:topic", "Message": inner},
                {"detail-type": "Accepted", "source": "app", "detail": fact},
            ]
        )
        return self._sent(fact, json.dumps(envelope))

    def _repeated(self) -> SentMessage:
        return self._sent(self._random.choice(self._facts))

    def _second_event(self) -> SentMessage:
        known = self._random.choice(self._facts)
        return self._sent(known | {"event_id": f"event-{self._number}"})

    def _conflicting(self) -> SentMessage:
        known = self._random.choice(self._facts)
        return self._sent(known | {"channel": f"forged-{self._number}"})

    def _malformed(self) -> SentMessage:
        return self._unrecordable(f'{{"event_id": "event-{self._number}", \t"é', "malformed")

    def _invalid(self) -> SentMessage:
        return self._unrecordable(self._stated(user_id=""), "invalid")

    def _unpublished(self) -> SentMessage:
        return self._unrecordable(self._stated(version="2026-03"), "unknown_policy")

    def _mismatching(self) -> SentMessage:
        return self._unrecordable(self._stated(content_sha256="cd" * 32), "content_mismatch")
