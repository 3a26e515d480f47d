"""The evidence page states the result of each verification and escapes every value."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import IP, acceptance, policy
from worker.domain.evidence import build_item
from worker.operations.evidence.page import page
from worker.operations.evidence.verification import document, verify_record


def _page(**changes: Any) -> str:
    item = build_item(acceptance(), received_at=START, recorded_at=START) | changes
    item = {name: value for name, value in item.items() if value is not None}
    return page(document("u-1", [verify_record(item, policy())], START))


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, "The record matches its hash; no alteration was detected."),
        ({"channel": "forged"}, "Altered: record_sha256 does not match the record."),
        ({"record_sha256": None}, "Not verifiable: no record_sha256"),
        ({"ip": None, "ip_salt": None}, "without affecting the hash of the record: ip."),
    ],
)
def test_page_states_the_result_of_the_verification(changes: dict[str, Any], result: str) -> None:
    assert result in _page(**changes)


def test_values_are_escaped_and_erased_ones_are_absent() -> None:
    shown = _page(channel="<script>\u202e", ip=None, ip_salt=None)
    assert "<script>" not in shown
    assert r"&lt;script&gt;\u202e" in shown
    assert IP not in shown
