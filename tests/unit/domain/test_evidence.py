"""Records: verification, erasure and comparison."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import Binary
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.simulation.virtual_clock import START
from tests.unit.fakes import (
    ABSENT,
    IP,
    ORIGIN,
    SESSION_ID,
    TEXT,
    TEXT_SHA256,
    USER_AGENT,
    acceptance,
    body_digest,
    message,
)
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.domain.evidence import (
    ERASABLE,
    build_item,
    erased,
    same_content,
    timestamp,
    verify,
)
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText


def _item(given: Acceptance | None = None, origin: Origin = ORIGIN) -> dict[str, Any]:
    return build_item(
        given or acceptance(referrer="newsletter"),
        TEXT,
        origin,
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


def test_item_is_bound_to_the_text_and_to_the_message() -> None:
    item = _item(acceptance(content_sha256=ABSENT))
    assert item["policy_sha256"].hex() == TEXT_SHA256
    assert "policy_locale" not in item
    assert item["message_id"] == "message-0"
    sha256 = hashlib.sha256(b"{}").hexdigest()
    assert item["body_digest"] == body_digest(item, sha256)
    salts = item["ip_salt"] + item["user_agent_salt"] + item["session_id_salt"]
    assert item["body_digest"] == hashlib.sha256(salts + bytes.fromhex(sha256)).digest()
    assert not item.keys() & {"replayed_at", "edits", "content_sha256"}
    spanish = PolicyText("0" * 64, "es-ES")
    item = build_item(acceptance(), spanish, Origin.at(START), recorded_at=START)
    assert (item["policy_sha256"], item["policy_locale"]) == (bytes(32), "es-ES")
    assert not item.keys() & {"message_id", "body_digest"}
    assert verify(item) == []


def test_item_shows_who_edited_the_message_before_its_replay() -> None:
    edits = (
        Edit("2026-11-23T10:00:00.000Z", "eve", ("user_id", "version"), "a" * 64),
        Edit("2026-11-24T10:00:00.000Z", "bob", ("locale",)),  # by an earlier release
    )
    origin = Origin.at(START, "m", "a" * 64, START + timedelta(days=2), edits)
    item = _item(origin=origin)
    assert item["replayed_at"] == "2026-11-24T10:00:00.000Z"
    assert item["edits"] == (
        '[{"at":"2026-11-23T10:00:00.000Z","by":"eve","changed":["user_id","version"],'
        f'"body_digest":"{body_digest(item, "a" * 64).hex()}"}},'
        '{"at":"2026-11-24T10:00:00.000Z","by":"bob","changed":["locale"]}]'
    )
    assert verify(item) == []
    assert verify({**item, "edits": item["edits"].replace("eve", "bob")})
    assert verify(_without(item, "edits"))


def test_format_is_as_documented_in_the_module() -> None:
    item = _item()
    for name in ERASABLE:
        content = item[f"{name}_salt"] + name.encode() + b"\0" + item[name].encode()
        assert item[f"{name}_commitment"] == hashlib.sha256(content).digest()
        assert len(item[f"{name}_salt"]) == 16
    hidden = {"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)}
    proven = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in item.items()
        if name not in hidden
    }
    text = json.dumps(proven, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert item["record_sha256"] == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize("names", [(name,) for name in ERASABLE] + [ERASABLE])
def test_item_is_valid_after_erasing_a_field_and_its_salt(names: tuple[str, ...]) -> None:
    item = _item()
    erased = _erased(item, *names)
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


def test_value_cannot_be_moved_into_the_salt() -> None:
    item = _item(acceptance(user_agent="Fox user_agent\0Bear"))
    assert verify({**item, "user_agent": "Bear"})
    moved = item["user_agent_salt"] + b"user_agent\0Fox "
    assert verify({**item, "user_agent": "Bear", "user_agent_salt": moved}) == [
        "user_agent_salt does not have 16 bytes: it may contain a part of user_agent"
    ]


def test_salt_without_a_commitment_is_detected() -> None:
    item = _item(acceptance(session_id=None))
    assert verify({**item, "session_id_salt": bytes(16)}) == ["session_id_salt has no commitment"]


def test_hash_of_a_record_that_has_none_is_detected() -> None:
    # JSON can express a lone surrogate, canonical JSON cannot.
    forged = {**_item(), "channel": "\ud800", "record_sha256": b""}
    assert verify(forged) == ["record_sha256 does not match the record"]


@pytest.mark.parametrize("name", ERASABLE)
def test_erased_value_cannot_be_found_by_trying_all_bodies(name: str) -> None:
    item = _item()
    kept = _erased(item, name)
    sha256 = hashlib.sha256(b"{}").hexdigest()
    assert body_digest(item, sha256) == item["body_digest"]
    assert body_digest(kept, sha256) != kept["body_digest"]
    assert bytes.fromhex(sha256) not in kept.values()


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


@pytest.mark.parametrize("record_format", ["1", "3", "", None, {"2"}], ids=str)
def test_another_format_is_an_alteration(record_format: object) -> None:
    assert verify({**_item(), "record_format": record_format})


def test_later_format_is_named() -> None:
    problems = verify({**_item(), "record_format": "3"})
    assert problems == ["record_format is '3'; this release verifies 1 and 2"]


@pytest.mark.parametrize("name", ["policy_sha256", "record_id", "record_sha256", "ip_commitment"])
def test_hexadecimal_text_in_place_of_its_bytes_is_an_alteration(name: str) -> None:
    item = _item()
    assert verify({**item, name: item[name].hex()})[0] == f"{name} is not binary"


def test_bytes_in_place_of_a_hexadecimal_text_are_an_alteration() -> None:
    item = _item(acceptance(channel="ab"))
    assert verify({**item, "channel": b"\xab"}) == ["channel is not a string"]


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
    assert timestamp(START + timedelta(microseconds=999_999)) == "2026-11-22T10:00:00.999Z"


@given(moment=st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_timestamp_of_any_time_is_as_isoformat_writes_it(moment: datetime) -> None:
    try:
        text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    except OverflowError:  # before the year 1 or after 9999 in UTC
        reject()
    assert timestamp(moment) == text.removesuffix("+00:00") + "Z"


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
        TEXT,
        ORIGIN,
        recorded_at=START,
        random_bytes=lambda count: bytes(next(drawn) for _ in range(count)),
    )
    # The record id is public.
    parts = [item["record_id"], *(item[f"{name}_salt"] for name in ERASABLE)]
    assert [len(part) for part in parts] == [8, 16, 16, 16]
    assert len(set(b"".join(parts))) == 8 + 3 * 16


def test_salt_is_not_found_elsewhere_in_any_record() -> None:
    salts, halves = [], set()
    for _ in range(50):
        item = _item()
        own = [item[f"{name}_salt"] for name in ERASABLE]
        salts += own
        halves |= {item["record_id"]}
        halves |= {salt[start : start + 8] for salt in own for start in (0, 8)}
    assert len(set(salts)) == 150
    assert len(halves) == 50 + 300


_EXPORT_OF_0_1_0 = Path(__file__).parents[2] / "evidence" / "export_of_0.1.0.json"


def _records_of_0_1_0() -> list[dict[str, Any]]:
    entries = json.loads(_EXPORT_OF_0_1_0.read_text())["records"]
    return [
        {
            name: bytes.fromhex(value) if name in entry["binary"] else value
            for name, value in entry["record"].items()
        }
        for entry in entries
    ]


@pytest.mark.parametrize("item", _records_of_0_1_0(), ids=lambda item: str(item["event_id"]))
def test_records_of_release_0_1_0_verify(item: dict[str, Any]) -> None:
    assert item["record_format"] == "1"
    assert verify(_as_read(item)) == []
    for name in item.keys() - set(ERASABLE) - {f"{each}_salt" for each in ERASABLE}:
        assert verify(_without(item, name)), f"a missing {name} went unseen"
    for name in item.keys() & set(ERASABLE):
        assert verify({**item, name: "forged"}) == [f"{name} does not match its commitment"]


def test_redelivery_of_a_message_recorded_by_release_0_1_0_has_the_same_content() -> None:
    [item] = [each for each in _records_of_0_1_0() if each["event_id"] == "unknown fields"]
    fields = {name: item[name] for name in Acceptance.model_fields if name in item}
    # The numbers as the producer wrote them; release 0.1.0 recorded them as doubles.
    unknown = (
        '"number":1.10,"big":12345678901234567890.123456789,"minus":-0.0,'
        '"nested":{"b":[1,null,true],"a":"x"}'
    )
    body = f"{json.dumps(fields)[:-1]},{unknown}}}"
    stated = decode(body, now=START, clock_skew_seconds=0)
    assert stated.extra == f"{{{unknown}}}"
    assert same_content(item, stated)
    other = decode(body.replace("1.10", "1.11"), now=START, clock_skew_seconds=0)
    assert not same_content(item, other)


def test_numbers_of_a_record_are_compared_exactly() -> None:
    def stated(number: str) -> Acceptance:
        text = f'{json.dumps(message())[:-1]},"n":{number}}}'
        return decode(text, now=START, clock_skew_seconds=0)

    item = _item(stated("12345678901234567890.123456789"))
    assert same_content(item, stated("12345678901234567890.1234567890"))
    assert not same_content(item, stated("12345678901234567890.123456788"))
