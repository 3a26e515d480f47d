"""Sizes of usual records, which DynamoDB bills by the kibibyte."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ABSENT, TEXT, TEXT_SHA256, acceptance
from worker.domain.evidence import build_item
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText

USER_AGENT: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.0.0 Safari/537.36"
)
IDS: Final = {
    "event_id": "0192f0c1-7a2b-7c3d-8e4f-5a6b7c8d9e0f",
    "user_id": "6f1d3c52-9a0e-4c7b-b1f4-2d8e5a7c9b30",
}
CLIENT: Final = {
    "ip": "203.0.113.77",
    "user_agent": USER_AGENT,
    "session_id": "c9a1f7e2-4b3d-4e5f-8a6b-7c8d9e0f1a2b",
}
NO_CLIENT: Final = dict.fromkeys(CLIENT, ABSENT)
NOTHING: Final = dict.fromkeys(("content_sha256", "locale", "method", "channel", *CLIENT), ABSENT)
ORIGIN: Final = Origin.at(START, "7d0cfb1e-33a5-4f0e-9b6b-000000000001", "ab" * 32)
EDIT: Final = Edit("2026-11-23T09:00:00.000+00:00", "eve", ("version",), "cd" * 32)
EDITED: Final = Origin.at(
    START, ORIGIN.message_id, EDIT.body_sha256, START + timedelta(days=1), (EDIT,)
)


def _size(item: dict[str, Any]) -> int:
    """Return the size of an item.

    Source: Amazon DynamoDB developer guide, "DynamoDB Item sizes and formats".
    """
    return sum(
        len(name.encode()) + len(value.encode() if isinstance(value, str) else value)
        for name, value in item.items()
    )


@pytest.mark.parametrize(
    ("fields", "text", "origin", "size"),
    [
        (NOTHING, TEXT, ORIGIN, 471),
        (NO_CLIENT, TEXT, ORIGIN, 585),
        (CLIENT, TEXT, ORIGIN, 1002),
        (
            {**CLIENT, "ip": "2001:db8:85a3:8d3:1319:8a2e:370:7348", "content_sha256": ABSENT},
            PolicyText(TEXT_SHA256, "es-ES"),
            ORIGIN,
            966,
        ),
        ({**NO_CLIENT, "on_behalf_of": "Example GmbH"}, TEXT, EDITED, 803),
    ],
    ids=["required fields", "web", "web with client", "IPv6 and language", "edited"],
)
def test_usual_record_costs_one_write_unit(
    fields: dict[str, Any], text: PolicyText, origin: Origin, size: int
) -> None:
    assert len(USER_AGENT) == 111
    item = build_item(
        acceptance(**IDS, **fields), text, origin, recorded_at=START + timedelta(seconds=1)
    )
    assert _size(item) == size
    assert size < 1024
