"""The messages that are pushed, each with the fate that it must meet."""

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
class Sent:
    """One message.

    Attributes:
        number: goes along as a message attribute.
        fact: the acceptance that it states, if it can be recorded.
        reason: why it must die, if it cannot.
    """

    number: int
    body: str
    fact: dict[str, Any] | None = None
    reason: str | None = None


class Author:
    """Write messages of every kind.

    Args:
        random: chooses among them.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = 0
        self._facts: list[dict[str, Any]] = []
        self._kinds = {
            self._good: 60,
            self._enveloped: 12,
            self._repeated: 8,
            self._second_event: 5,
            self._conflicting: 5,
            self._malformed: 3,
            self._invalid: 3,
            self._unpublished: 2,
            self._mismatching: 2,
        }

    def write(self) -> Sent:
        """Write the next message."""
        self._number += 1
        kinds = list(self._kinds) if self._facts else [self._good]
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

    def _sent(self, fact: dict[str, Any], body: str | None = None) -> Sent:
        return Sent(self._number, body or json.dumps(fact), fact=fact)

    def _hopeless(self, content: Any, reason: str) -> Sent:
        body = content if isinstance(content, str) else json.dumps(content)
        return Sent(self._number, body, reason=reason)

    def _good(self) -> Sent:
        kinds: list[dict[str, Any]] = [
            {},
            {"channel": "web", "user_agent": "Ünïcode ✓"},
            {"later_field": {"n": [self._number, None]}},
            {"padding": "x" * 20_000},
        ]
        chosen = self._random.choices(kinds, [10, 5, 4, 1])[0]
        return self._sent(self._remember(self._stated(**chosen)))

    def _enveloped(self) -> Sent:
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

    def _repeated(self) -> Sent:
        return self._sent(self._random.choice(self._facts))

    def _second_event(self) -> Sent:
        known = self._random.choice(self._facts)
        return self._sent(known | {"event_id": f"event-{self._number}"})

    def _conflicting(self) -> Sent:
        known = self._random.choice(self._facts)
        return self._sent(known | {"channel": f"forged-{self._number}"})

    def _malformed(self) -> Sent:
        return self._hopeless(f'{{"event_id": "event-{self._number}", \t"é', "malformed")

    def _invalid(self) -> Sent:
        return self._hopeless(self._stated(user_id=""), "invalid")

    def _unpublished(self) -> Sent:
        return self._hopeless(self._stated(version="2026-03"), "unknown_policy")

    def _mismatching(self) -> Sent:
        return self._hopeless(self._stated(content_sha256="cd" * 32), "content_mismatch")
