"""Records: verification, erasure and comparison."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.virtual_clock import START
from tests.unit.fakes import IP, SESSION_ID, USER_AGENT, acceptance
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import (
    ERASABLE,
    build_item,
    erased,
    record_sha256,
    same_content,
    timestamp,
    verify,
)


def _item(given: Acceptance | None = None) -> dict[str, Any]:
    return build_item(
        given or acceptance(referrer="newsletter"),
        received_at=START,
        recorded_at=START + timedelta(milliseconds=1500),
    )


def _erased(item: dict[str, Any], *names: str) -> dict[str, Any]:
    gone = {*names, *(f"{name}_salt" for name in names)}
    return {name: value for name, value in item.items() if name not in gone}


def _as_read(item: dict[str, Any]) -> dict[str, Any]:
    return {
        name: Binary(value) if isinstance(value, bytes) else value for name, value in item.items()
    }


def test_item_has_every_field_of_the_acceptance_and_its_times() -> None:
    item = _item()
    assert (item["user_id"], item["policy_version"]) == ("u-0", "acceptable-use#2026-01")
    assert (item["ip"], item["user_agent"], item["session_id"]) == (IP, USER_AGENT, SESSION_ID)
    assert json.loads(item["extra"]) == {"referrer": "newsletter"}
    assert item["received_at"] == "2026-11-22T10:00:00.000Z"
    assert item["recorded_at"] == "2026-11-22T10:00:01.500Z"
    assert item["accepted_at"] == "2026-11-22T09:59:00Z"


def test_format_is_as_documented_in_the_module() -> None:
    item = _item()
    for name in ERASABLE:
        expected = hmac.digest(
            item[f"{name}_salt"], name.encode() + b"\0" + item[name].encode(), "sha256"
        )
        assert item[f"{name}_commitment"] == expected
        assert len(item[f"{name}_salt"]) == 16
    hidden = {"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)}
    proven = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in item.items()
        if name not in hidden
    }
    text = json.dumps(proven, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert item["record_sha256"] == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("names", [(name,) for name in ERASABLE] + [ERASABLE])
def test_item_is_valid_after_erasing_a_field_and_its_salt(names: tuple[str, ...]) -> None:
    item = _item()
    erased = _erased(item, *names)
    assert record_sha256(erased) == item["record_sha256"]
    assert verify(erased) == []


def test_item_returned_by_dynamodb_is_valid() -> None:
    assert verify(_as_read(_item())) == []
    assert verify(_as_read(_erased(_item(), *ERASABLE))) == []


def test_every_other_change_is_detected() -> None:
    item = _item()
    proven = [name for name in item if name not in ERASABLE and not name.endswith("_salt")]
    for name in proven:
        value = item[name]
        other = value[::-1] if isinstance(value, bytes) else f"{value}x"
        assert verify({**item, name: other}), f"a changed {name} went unseen"
        assert verify(_without(item, name)), f"a missing {name} went unseen"
    assert verify({**item, "on_behalf_of": "somebody"})


def _without(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in item.items() if each != name}


@pytest.mark.parametrize("name", ERASABLE)
def test_changed_erasable_value_is_detected(name: str) -> None:
    item = _item()
    assert verify({**item, name: "forged"}) == [f"{name} does not match its commitment"]
    assert verify({**item, f"{name}_salt": b"\0" * 16}) == [f"{name} does not match its commitment"]


@pytest.mark.parametrize("name", ERASABLE)
def test_value_added_after_erasure_is_detected(name: str) -> None:
    erased = {**_erased(_item(), name), name: "forged"}
    assert verify(erased) == [f"{name} has no salt, so it cannot be verified"]


def test_values_swapped_between_erasable_fields_are_detected() -> None:
    item = _item(acceptance(ip="same", session_id="same"))
    swapped = {
        **item,
        "ip_salt": item["session_id_salt"],
        "ip_commitment": item["session_id_commitment"],
    }
    assert len(verify(swapped)) == 2


def test_equal_values_have_different_salts_and_commitments() -> None:
    first, second = _item(), _item()
    for name in ERASABLE:
        assert first[f"{name}_salt"] != second[f"{name}_salt"]
        assert first[f"{name}_commitment"] != second[f"{name}_commitment"]


def test_absent_erasable_field_has_no_salt_or_commitment() -> None:
    item = _item(acceptance(ip=None))
    assert not [name for name in item if name.startswith("ip")]
    assert verify({**item, "ip": "forged"})


@pytest.mark.parametrize("value", [7, {"a"}, None, b"\xff"], ids=str)
@pytest.mark.parametrize("name", ["ip", "ip_salt", "ip_commitment", "channel", "record_sha256"])
def test_value_of_another_type_is_detected(name: str, value: object) -> None:
    assert verify({**_item(), name: value})


def test_other_format_is_reported() -> None:
    item = {**_item(), "record_format": "2"}
    assert "record_format is '2', not '1'" in verify(item)


def test_only_the_same_acceptance_has_the_same_content() -> None:
    stated = acceptance(referrer="newsletter")
    item = _item(stated)
    assert same_content(item, stated)
    assert not same_content(item, acceptance(referrer="advert"))
    assert not same_content(item, acceptance())
    for name in ("locale", "ip", "event_id", "accepted_at"):
        changed = acceptance(**{"referrer": "newsletter", name: "2026-11-22T09:59:01Z"})
        assert not same_content(item, changed)


def test_order_of_unknown_fields_does_not_change_the_content() -> None:
    item = _item(acceptance(a=1, b={"x": 1, "y": 2}))
    assert same_content(item, acceptance(b={"y": 2, "x": 1}, a=1))


def test_erased_field_is_ignored_in_comparison() -> None:
    item = _erased(_item(acceptance()), "ip")
    assert same_content(item, acceptance())
    assert not same_content(item, acceptance(locale="en"))


def test_absent_field_does_not_count_as_erased() -> None:
    item = _item(acceptance(ip=None))
    assert erased(item) == []
    assert erased(_erased(item, "session_id")) == ["session_id"]
    assert not same_content(item, acceptance())


def test_salt_without_its_value_is_not_an_alteration() -> None:
    assert verify(_without(_item(), "ip")) == []


def test_timestamp_is_utc_with_milliseconds() -> None:
    assert timestamp(START) == "2026-11-22T10:00:00.000Z"


@given(
    fields=st.dictionaries(
        st.sampled_from(["ip", "user_agent", "session_id", "locale", "on_behalf_of"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    ),
    erased=st.sets(st.sampled_from(ERASABLE)),
)
def test_any_acceptance_is_valid_with_any_fields_erased(
    fields: dict[str, str], erased: set[str]
) -> None:
    item = _item(acceptance(**fields))
    assert verify(_erased(item, *erased)) == []


# Other names than the program's, some of which are not hashed.
@given(texts=st.dictionaries(st.text().map("x".__add__), st.text(), max_size=8))
def test_hash_is_that_of_sorted_json_without_white_space(texts: dict[str, str]) -> None:
    # Computed from the documented format with the standard library only.
    item = {**texts, "record_format": "1"}
    document = json.dumps(item, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert record_sha256(item) == hashlib.sha256(document.encode()).hexdigest()


FOREIGN: dict[str, Any] = {"user_id": "u-0", "policy_version": "acceptable-use#2026-01"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"record_id": 7, "event_id": {"a", "b"}},
        {"ip": 7, "ip_salt": "text", "user_agent": None},
        {"record_format": "1", "accepted_at": "2026-11-22T09:59:00Z"},
    ],
    ids=["nothing", "set", "number", "older format"],
)
def test_item_of_another_program_is_reported(changes: dict[str, Any]) -> None:
    problems = verify({**FOREIGN, **changes})
    assert problems == ["no record_sha256: written by another program, or altered"]


@pytest.mark.parametrize("name", ["event_id", "channel", "ip_salt", "ip_commitment"])
def test_number_is_not_equal_to_its_text(name: str) -> None:
    item = {**_item(acceptance(event_id="7", channel="7")), name: Decimal(7)}
    assert verify(item)


@pytest.mark.parametrize(
    "extra",
    [Decimal(7), {"a": "b"}, None, "{", "[" * 200_000, '{"a":2}', b"\xff"],
    ids=lambda extra: repr(extra)[:16],
)
def test_unknown_fields_of_any_type_are_compared(extra: object) -> None:
    item = {**_item(acceptance(a=1)), "extra": extra}
    assert not same_content(item, acceptance(a=1))


def test_other_attributes_are_not_compared() -> None:
    item = {**_item(acceptance()), "imported_at": "2026-01-01", "migration": {"1", "2"}}
    assert same_content(item, acceptance())


def test_each_salt_has_16_random_bytes_of_its_own() -> None:
    drawn = iter(range(256))  # all bytes differ, so shared ones are detected
    item = build_item(
        acceptance(),
        received_at=START,
        recorded_at=START,
        random_bytes=lambda count: bytes(next(drawn) for _ in range(count)),
    )
    # The record id is public.
    parts = [bytes.fromhex(item["record_id"]), *(item[f"{name}_salt"] for name in ERASABLE)]
    assert [len(part) for part in parts] == [8, 16, 16, 16]
    assert len(set(b"".join(parts))) == 8 + 3 * 16


def test_salt_is_not_found_elsewhere_in_any_record() -> None:
    salts, halves = [], set()
    for _ in range(50):
        item = _item()
        own = [item[f"{name}_salt"] for name in ERASABLE]
        salts += own
        halves |= {bytes.fromhex(item["record_id"])}
        halves |= {salt[start : start + 8] for salt in own for start in (0, 8)}
    assert len(set(salts)) == 150
    assert len(halves) == 50 + 300
