"""Good messages, bare and in envelopes, from which the bad ones are made."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any, Final

from tests.fuzz.oddities import STRINGS, odd_value
from tests.unit.fakes import message

_OPTIONAL: Final = ("content_sha256", "locale", "method", "channel", "on_behalf_of")


def good_fields(rng: Random, number: int) -> dict[str, Any]:
    """Draw the fields of a message that can be recorded, some of them as odd as is allowed."""
    if rng.random() < 0.04:  # the same user as shortly before: a duplicate, or a conflict
        number = max(0, number - rng.randrange(1, 4))
    fields = message(number)
    if rng.random() < 0.2:
        # By the number, and so the same for who comes again.
        odd = STRINGS[number % len(STRINGS)].encode("utf-8", "replace").decode()
        fields["event_id"] = f"e{odd[:100]}{number}"
    if rng.random() < 0.1:
        fields["on_behalf_of"] = rng.choice(STRINGS)
    if rng.random() < 0.1:
        del fields[rng.choice(_OPTIONAL[:4])]
    if rng.random() < 0.2:
        fields[f"more {rng.randrange(9)}"] = odd_value(rng)
    return fields


def enveloped(rng: Random, data: Any, depth: int) -> Any:
    """Put data into as many envelopes, one within the other."""
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
