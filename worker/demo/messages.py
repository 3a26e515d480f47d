"""Messages of the demonstration: every kind that a queue may contain."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any, Final

POLICY: Final = "acceptable-use"
TITLE: Final = "Acceptable Use Policy"
PUBLISHED: Final = "2026-01"
PUBLISHED_LATE: Final = "2026-02"
UNPUBLISHED: Final = "2026-03"
# The user whose record the demonstration shows.
USER: Final = "u-42"
PUBLISHED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS: Final = {
    PUBLISHED: "Be kind. Do not send spam.",
    PUBLISHED_LATE: "Be kind. Send no spam, mine no coins.",
    UNPUBLISHED: "Be kind. Send no spam, mine no coins, share no passwords.",
}


def _acceptance(number: int, **changes: Any) -> dict[str, Any]:
    version = changes.get("version", PUBLISHED)
    return {
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"acceptance {number}")),
        "user_id": f"u-{number}",
        "policy_id": POLICY,
        "version": version,
        "accepted_at": "2026-01-15T10:00:00Z",
        "content_sha256": hashlib.sha256(TEXTS[version].encode()).hexdigest(),
        "method": "clickwrap",
        "channel": "web",
        "ip": "203.0.113.7",
        **changes,
    }


def messages(valid: int) -> list[str]:
    """Return valid, duplicate and enveloped messages, and some that cannot be recorded (yet).

    Args:
        valid: Number of plain valid messages.
    """
    bodies = [json.dumps(_acceptance(number)) for number in range(valid)]
    bodies += [json.dumps(_acceptance(number)) for number in range(20)]  # duplicates
    bodies += [_enveloped(valid + number, number % 4) for number in range(40)]
    bodies += [
        json.dumps(_acceptance(valid + 100 + number, version=PUBLISHED_LATE))
        for number in range(15)
    ]
    bodies += [json.dumps(_acceptance(valid + 200 + number))[:-7] for number in range(10)]
    for number in range(10):
        incomplete = _acceptance(valid + 300 + number)
        del incomplete["user_id"]
        bodies.append(json.dumps(incomplete))
    return bodies


def conflicting_messages() -> list[str]:
    """Return messages with the ids of recorded events, but different content."""
    return [json.dumps(_acceptance(number, channel="forged")) for number in range(5)]


def unpublished_messages() -> list[str]:
    """Return acceptances of a version that the demonstration does not publish."""
    return [json.dumps(_acceptance(900 + number, version=UNPUBLISHED)) for number in range(12)]


def _enveloped(number: int, kind: int) -> str:
    inner = _acceptance(number)
    event = {"specversion": "1.0", "id": inner["event_id"], "source": "/demo", "type": "accepted"}
    envelopes: list[dict[str, Any]] = [
        {**event, "data": inner},
        {**event, "data_base64": base64.b64encode(json.dumps(inner).encode()).decode()},
        {"Type": "Notification", "TopicArn": "arn:demo", "Message": json.dumps(inner)},
        {"detail-type": "Accepted", "source": "demo", "detail": inner},
    ]
    return json.dumps(envelopes[kind])


def event_of(body: str) -> str | None:
    """Return the event id of a valid message in any envelope; None for other messages."""
    data = _acceptance_in(body)
    valid = "user_id" in data and data.get("channel") != "forged"
    return str(data["event_id"]) if valid else None


def version_of(body: str) -> str | None:
    """Return the policy version that a message in any envelope names; None without one."""
    return _acceptance_in(body).get("version")


def _acceptance_in(body: str) -> dict[str, Any]:
    """Return the acceptance in any envelope; empty if the body is not JSON."""
    try:
        data: dict[str, Any] = json.loads(body)
    except ValueError:
        return {}
    if "data_base64" in data:
        data = json.loads(base64.b64decode(data["data_base64"]))
    elif "Message" in data:
        data = json.loads(data["Message"])
    return data.get("data") or data.get("detail") or data
