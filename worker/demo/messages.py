"""What the guided run sends: every kind of message that a queue may hold."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import Any, Final

POLICY: Final = "acceptable-use"
PUBLISHED: Final = "2026-01"
FORGOTTEN: Final = "2026-02"
TEXTS: Final = {
    PUBLISHED: "Be kind. Do not send spam.",
    FORGOTTEN: "Be kind. Send no spam, mine no coins.",
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


def messages(good: int) -> list[str]:
    """Write good ones, doubled ones, enveloped ones, and ones that cannot be recorded (yet)."""
    bodies = [json.dumps(_acceptance(number)) for number in range(good)]
    bodies += [json.dumps(_acceptance(number)) for number in range(20)]  # the same event twice
    bodies += [_enveloped(good + number, number % 4) for number in range(40)]
    bodies += [
        json.dumps(_acceptance(good + 100 + number, version=FORGOTTEN)) for number in range(15)
    ]
    bodies += [json.dumps(_acceptance(good + 200 + number))[:-7] for number in range(10)]
    for number in range(10):
        incomplete = _acceptance(good + 300 + number)
        del incomplete["user_id"]
        bodies.append(json.dumps(incomplete))
    return bodies


def late_messages() -> list[str]:
    """Write copies of recorded events that were tampered with."""
    return [json.dumps(_acceptance(number, channel="forged")) for number in range(5)]


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
    """Find the event that a good message of ours states, whatever its envelope."""
    try:
        data = json.loads(body)
    except ValueError:
        return None
    if "data_base64" in data:
        data = json.loads(base64.b64decode(data["data_base64"]))
    elif "Message" in data:
        data = json.loads(data["Message"])
    data = data.get("data") or data.get("detail") or data
    good = "user_id" in data and data.get("channel") != "forged"
    return str(data["event_id"]) if good else None
