"""Validation of acceptances."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.fakes import ABSENT, acceptance, message
from worker.domain.acceptance import EXTRA_MAX_BYTES, Acceptance, parse_time

REQUIRED = ("event_id", "user_id", "policy_id", "version", "accepted_at")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22t10:00:00z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T11:30:00+01:30", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00:00.5-00:00", datetime(2026, 11, 22, 10, 0, 0, 500_000, tzinfo=UTC)),
        (
            "2026-11-22T10:00:00.123456789Z",
            datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=UTC),
        ),
        ("2026-11-22T10:00:00.9999999Z", datetime(2026, 11, 22, 10, 0, 0, 999_999, tzinfo=UTC)),
        (f"2026-11-22T10:00:00.{'1' * 15}Z", datetime(2026, 11, 22, 10, 0, 0, 111_111, tzinfo=UTC)),
        (f"2026-11-22T10:00:00.{'0' * 5000}z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2024-02-29T23:59:59+23:59", datetime(2024, 2, 29, 0, 0, 59, tzinfo=UTC)),
        ("2026-11-22T10:00:00-23:59", datetime(2026, 11, 23, 9, 59, tzinfo=UTC)),
    ],
)
def test_rfc_3339_time_is_parsed(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22",
        "2026-11-22T10:00:00",
        "2026-11-22 10:00:00Z",
        "2026-11-22T10:00Z",
        "20261122T100000Z",
        "2026-13-22T10:00:00Z",
        "2026-02-30T10:00:00Z",
        "2026-11-22T24:00:01Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T10:60:00Z",
        "2026-11-22T10:00:61Z",
        "2026-00-22T10:00:00Z",
        "2026-11-00T10:00:00Z",
        "2026-11-31T10:00:00Z",
        "2025-02-29T10:00:00Z",
        "0000-11-22T10:00:00Z",
        "2026-11-22T10:00:00.Z",
        "2026-11-22T10:00:00,5Z",
        "2026-11-22T10:00:00+25:00",
        "2026-11-22T10:00:00+24:00",
        "2026-11-22T10:00:00+10:60",
        "2026-11-22T10:00:00-00:99",
        "2026-11-22T10:00:00+1:00",
        "2026-11-22T10:00:00+0100",
        "2026-11-22T10:00:00+01",
        "2026-11-22T10:00:00+01:00:00",
        "2026-11-22T10:00:00Z+01:00",
        "2026-11-22T10:00:00\u22121:00",
        "2026-W47-7T10:00:00Z",
        "2026-326T10:00:00Z",
        "+2026-11-22T10:00:00Z",
        " 2026-11-22T10:00:00Z",
        "2026-11-22T10:00:00.\u0661Z",
        "2026-11-2\uff12T10:00:00Z",
        "2026-11-22T10:00:0\u0967Z",
        "2026-11-22T10:00:00Z\n",
        "٢٠٢٦-11-22T10:00:00Z",
        "1700000000",
    ],
)
def test_other_time_format_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an RFC 3339 time|not a valid time"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:59:60Z",
        "2016-12-31t23:59:60.75z",
        "2016-12-31T14:29:60-09:30",
        "2017-01-01T05:44:60.0+05:45",
        "9999-12-31T23:59:60Z",
        "0001-01-01T00:00:60+00:01",
    ],
)
def test_leap_second_is_parsed_as_the_end_of_its_minute_in_any_offset(text: str) -> None:
    before = parse_time(f"{text[:17]}59{text[19:]}".replace(".75", "").replace(".0", ""))
    assert timedelta(0) < parse_time(text) - before < timedelta(seconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T23:58:60Z",
        "2016-12-31T22:59:60Z",
        "2016-12-31T23:59:60+01:00",
        "2016-12-31T14:29:60+09:30",
        "2016-12-31T23:59:61Z",
    ],
)
def test_second_60_is_rejected_except_at_the_end_of_a_utc_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be an RFC 3339 time|leap second"):
        parse_time(text)


def test_time_has_a_maximum_length_and_is_kept_unchanged() -> None:
    longest = f"2026-11-22T09:59:00.{'7' * 235}Z"
    for text in (longest, "2016-12-31T23:59:60Z"):
        assert acceptance(accepted_at=text).accepted_at == text
    with pytest.raises(ValidationError, match="accepted_at"):
        acceptance(accepted_at=longest.replace("Z", "7Z"))


_OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda each: timezone(timedelta(minutes=each)))


@given(st.datetimes(timezones=_OFFSETS))
def test_every_time_with_an_offset_is_parsed_exactly(moment: datetime) -> None:
    assert parse_time(moment.isoformat(timespec="microseconds")) == moment


def test_values_are_kept_unchanged() -> None:
    fields = {
        "user_id": " u-1 ",
        "accepted_at": "2026-11-22t10:00:00.10z",
        "content_sha256": "AB" * 32,
        "locale": "",
    }
    assert acceptance(**fields).stated() == {**message(), **fields}


def test_absent_and_null_fields_are_omitted() -> None:
    stated = acceptance(ip=None, user_agent=ABSENT, on_behalf_of=None).stated()
    assert not {"ip", "user_agent", "on_behalf_of", "extra"} & set(stated)


def test_unknown_fields_are_kept_in_extra() -> None:
    unknown = {"referrer": "é", "nested": {"n": [1, 2.5, None, True]}, "extra": "mine"}
    stated = acceptance(**unknown).stated()
    assert json.loads(stated["extra"]) == unknown
    assert not {"referrer", "nested"} & set(stated)


def test_sort_key_joins_policy_and_version_which_must_not_contain_the_separator() -> None:
    assert acceptance().policy_version == "acceptable-use#2026-01"
    for field in ("policy_id", "version"):
        with pytest.raises(ValidationError, match=field):
            acceptance(**{field: "a#b"})


@pytest.mark.parametrize("field", REQUIRED)
@pytest.mark.parametrize("value", [ABSENT, None, "", 7, ["x"], "x" * 3000])
def test_required_field_must_be_a_short_string(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        acceptance(**{field: value})
    assert [each["loc"] for each in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize("field", ["event_id", "user_id", "policy_id", "version"])
@pytest.mark.parametrize("value", [" ", "\u2003\t"])
def test_identifier_must_not_be_blank(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        acceptance(**{field: value})


@pytest.mark.parametrize("field", sorted(set(Acceptance.model_fields) - set(REQUIRED)))
@pytest.mark.parametrize("value", [7, True, ["x"], {}, "x" * 3000])
def test_optional_field_must_be_a_short_string_or_null(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        acceptance(**{field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_unknown_fields_have_a_maximum_total_size() -> None:
    acceptance(big="x" * (EXTRA_MAX_BYTES - 20))
    with pytest.raises(ValidationError, match="must not exceed 350000 bytes in total"):
        acceptance(big="é" * (EXTRA_MAX_BYTES // 2))


def test_large_unknown_fields_are_kept_as_they_are_written() -> None:
    big = "x" * (EXTRA_MAX_BYTES * 2 // 3)
    fields = message(1) | {"big": big, "number": 1.1}
    text = json.dumps(fields).replace("1.1}", "1.10}")
    content = Acceptance.of_message(fields)
    content.keep_text(text)
    assert content.extra == content.stated()["extra"] == f'{{"big":"{big}","number":1.10}}'


def test_fields_of_a_message_are_validated_as_any_others() -> None:
    fields = message(1) | {"ip": None, "x": [1, {"y": "z"}], "locale": "de"}
    of_message = Acceptance.of_message(fields)
    validated = Acceptance.model_validate(fields)
    assert of_message == validated
    assert of_message.model_extra == validated.model_extra == {"x": [1, {"y": "z"}]}
    assert of_message.model_dump() == validated.model_dump()
    assert of_message.extra == validated.extra


@pytest.mark.parametrize("number", [10**400, -(10**400), math.inf, math.nan])
def test_number_beyond_the_range_of_a_double_is_invalid(number: float) -> None:
    fields = message(1) | {"x": [{"y": [number]}]}
    with pytest.raises(ValueError, match="a number is out of range"):
        Acceptance.of_message(fields)
    with pytest.raises(ValidationError, match="a number is out of range"):
        Acceptance.model_validate(fields)


def test_acceptance_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        acceptance().user_id = "another"  # type: ignore[misc] # must fail
