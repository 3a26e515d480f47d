"""Valid messages, plain and in envelopes, as a basis for mutations."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any, Final

from tests.fuzz.unusual_values import STRINGS, unusual_value
from tests.unit.fakes import message

_OPTIONAL: Final = ("content_sha256", "locale", "method", "channel", "on_behalf_of")


def valid_fields(rng: Random, number: int) -> dict[str, Any]:
    """Draw the fields of a valid message, some of them unusual."""
    if rng.random() < 0.04:  # the same user as shortly before: a duplicate or a conflict
        number = max(0, number - rng.randrange(1, 4))
    fields = message(number)
    if rng.random() < 0.2:
        # Chosen by number, so that it is the same for a repeated user.
        unusual = STRINGS[number % len(STRINGS)].encode("utf-8", "replace").decode()
        fields["event_id"] = f"e{unusual[:100]}{number}"
    if rng.random() < 0.1:
        fields["on_behalf_of"] = rng.choice(STRINGS)
    if rng.random() < 0.1:
        del fields[rng.choice(_OPTIONAL[:4])]
    if rng.random() < 0.2:
        fields[f"more {rng.randrange(9)}"] = unusual_value(rng)
    return fields


def enveloped(rng: Random, data: Any, depth: int) -> Any:
    """Return data in `depth` nested envelopes."""
    for _ in range(depth):
        data = _in_envelope(rng, data)
    return data


def _in_envelope(rng: Random, data: Any) -> dict[str, Any]:
    text = json.dumps(data, ensure_ascii=rng.random() < 0.5)
    event = {"specversion": "1.0", "id": "1", "source": "/fuzz", "type": "accepted"}
    content = text.encode("utf-8", "surrogatepass")
    return rng.choice(
        (
            {**event, "data": data},
            {**event, "data": text},
            {**event, "data_base64": base64.b64encode(content).decode()},
            {"Type": "Notification", "TopicArn": "arn:fuzz", "Message": text},
            {"detail-type": "Accepted", "source": "fuzz", "detail": data},
        )
    )
