"""Acceptances and policies for the contract tests."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from worker.domain.acceptance import Acceptance
from worker.domain.policy import Policy

POLICY = "acceptable-use"
VERSION = "2026-01"
TEXT_SHA256 = hashlib.sha256(b"Be kind.").hexdigest()
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def acceptance(number: int, **changes: Any) -> Acceptance:
    """Return an acceptance of user `user-{number}`.

    Its address is salted, so no two records are equal.
    """
    stated: dict[str, Any] = {
        "event_id": f"event-{number}",
        "user_id": f"user-{number}",
        "policy_id": POLICY,
        "version": VERSION,
        "accepted_at": "2026-05-01T10:00:00Z",
        "ip": "203.0.113.7",
    }
    return Acceptance.model_validate(stated | changes)


def policy(version: str = VERSION, **changes: Any) -> Policy:
    """Return a policy that has been in force since before `NOW`."""
    stated: dict[str, Any] = {
        "policy_id": POLICY,
        "version": version,
        "title": "Acceptable Use Policy",
        "content_sha256": TEXT_SHA256,
        "published_at": datetime(2026, 1, 1, tzinfo=UTC),
        "effective_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Policy.model_validate(stated | changes)
