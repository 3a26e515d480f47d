"""Reduction of addresses and user agents, and comparison of reduced records."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.store import StoreEnvironment, StoreVariant
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import IP, TEXT, USER_AGENT, acceptance
from worker.domain.evidence import verify
from worker.domain.origin import Edit, Origin
from worker.domain.privacy import network
from worker.repository import RecordResult
from worker.settings import AWSSettings

RECORDED, DUPLICATE, CONFLICT = RecordResult


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.77", "203.0.113.0/24"),
        ("2001:db8:aaaa:bbbb::1", "2001:db8:aaaa::/48"),
        ("::ffff:203.0.113.77", "203.0.113.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("203.0.113.77, 10.0.0.1", None),
        ("203.0.113.77:443", None),
        ("unknown", None),
        ("", None),
    ],
)
def test_address_is_truncated_to_its_network_and_other_text_is_omitted(
    address: str, kept: str | None
) -> None:
    assert network(address) == kept


@pytest.fixture
def environment() -> StoreEnvironment:
    return StoreEnvironment(StoreVariant("simulated", "batch"), None)  # type: ignore[arg-type] # no server


async def _record(
    environment: StoreEnvironment, changes: dict[str, Any], **stated: Any
) -> RecordResult:
    async with environment.repository(**changes) as repository:
        return await repository.record(acceptance(**stated), TEXT)


@pytest.mark.parametrize(
    ("changes", "is_hashed"),
    [
        ({}, True),
        ({"ip": "truncated"}, False),
        ({"ip": "omit"}, False),
        ({"user_agent": "omit"}, False),
    ],
    ids=str,
)
@simulated
async def test_reduced_value_cannot_be_found_by_trying_all_bodies(
    changes: dict[str, Any], environment: StoreEnvironment, *, is_hashed: bool
) -> None:
    await environment.create_tables()
    edited = Edit("2026-11-22T10:00:00Z", "eve", ("user_id",), "a" * 64)
    origin = Origin.at(START, "m-1", "a" * 64, START, (edited,))
    async with environment.repository(**changes) as repository:
        await repository.record(acceptance(), TEXT, origin)
        await repository.record(acceptance(1, ip=None, user_agent=None), TEXT, origin)
    items = {item["user_id"]: item for item in await environment.items()}
    hashed = ("body_digest" in items["u-0"], "body_digest" in items["u-0"]["edits"])
    assert hashed == (is_hashed, is_hashed)
    assert '"by":"eve"' in items["u-0"]["edits"]
    assert "body_digest" in items["u-1"]  # nothing was reduced
    assert verify(items["u-0"]) == verify(items["u-1"]) == []


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, {"ip": IP, "user_agent": USER_AGENT}),
        ({"ip": "truncated"}, {"ip": "203.0.113.0/24", "ip_reduced": "truncated",
                               "user_agent": USER_AGENT}),
        ({"ip": "omit"}, {"ip_reduced": "omitted", "user_agent": USER_AGENT}),
        ({"user_agent": "omit"}, {"ip": IP, "user_agent_reduced": "omitted"}),
    ],
    ids=str,
)  # fmt: skip
@simulated
async def test_record_is_reduced_by_the_settings_and_valid(
    changes: dict[str, Any], kept: dict[str, str], environment: StoreEnvironment
) -> None:
    await environment.create_tables()
    assert await _record(environment, changes) is RECORDED
    [item] = await environment.items()
    names = ("ip", "ip_reduced", "user_agent", "user_agent_reduced")
    assert {name: item[name] for name in names if name in item} == kept
    assert {"ip_salt" in item, "ip_commitment" in item} == {"ip" in kept}
    assert verify(item) == []
    for name in kept:
        assert verify({**item, name: "forged"}), f"a forged {name} went unseen"


@simulated
async def test_absent_field_is_not_marked_as_reduced(environment: StoreEnvironment) -> None:
    await environment.create_tables()
    less = {"ip": "omit", "user_agent": "omit"}
    assert await _record(environment, less, ip=None, user_agent=None) is RECORDED
    [item] = await environment.items()
    assert not [name for name in item if name.endswith("_reduced")]


SETTINGS: list[dict[str, Any]] = [
    {},
    {"ip": "truncated"},
    {"ip": "omit", "user_agent": "omit"},
]


@pytest.mark.parametrize("later", SETTINGS, ids=str)
@pytest.mark.parametrize("first", SETTINGS, ids=str)
@simulated
async def test_same_message_is_a_duplicate_after_a_change_of_settings(
    first: dict[str, Any], later: dict[str, Any], environment: StoreEnvironment
) -> None:
    await environment.create_tables()
    assert await _record(environment, first) is RECORDED
    [before] = await environment.items()
    assert await _record(environment, later) is DUPLICATE
    assert await _record(environment, later, channel="forged") is CONFLICT
    assert await environment.items() == [before]


@simulated
async def test_other_address_is_a_conflict_without_reductions(
    environment: StoreEnvironment,
) -> None:
    await environment.create_tables()
    assert await _record(environment, {}) is RECORDED
    assert await _record(environment, {}, ip="198.51.100.1") is CONFLICT
    assert await _record(environment, {"user_agent": "omit"}, ip="198.51.100.1") is CONFLICT


def test_default_settings_reduce_nothing() -> None:
    assert (AWSSettings().ip, AWSSettings().user_agent) == ("full", "full")
