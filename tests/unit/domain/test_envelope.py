"""Decoding of valid and invalid bodies; details without personal data."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.decoding import check_plain
from tests.unit.fakes import (
    ABSENT,
    IP,
    SESSION_ID,
    USER_AGENT,
    acceptance,
    body,
    fixed_now,
    message,
)
from worker.domain.acceptance import EXTRA_MAX_BYTES, Acceptance
from worker.domain.envelope import decode, decode_plain
from worker.errors import Reason, RefusedError

MALFORMED, INVALID = Reason.MALFORMED, Reason.INVALID


def _decode(text: str | bytes) -> Acceptance:
    return decode(text, now=fixed_now(), clock_skew_seconds=300)


def _refused(text: str | bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        _decode(text)
    detail = caught.value.detail
    assert detail
    assert "\n" not in detail
    for value in (IP, USER_AGENT, SESSION_ID):
        assert value not in detail
    return caught.value


MALFORMED_INPUT: dict[str, tuple[str | bytes, str]] = {
    "not UTF-8": (b'{"event_id": "\xff"}', "not UTF-8 at character 14"),
    "a lone surrogate": ('{"event_id": "\ud800"}', "not UTF-8 at character 14"),
    "nothing": ("", "not JSON: .* at line 1 column 0"),
    "blank": (" \n ", "not JSON: .* at line 2 column 1"),
    "not JSON": ("hello", "not JSON: .* at line 1 column 1"),
    "cut off": (body()[:-7], "not JSON: .* at line 1 column [0-9]+"),
    "cut off in a later line": ('{\n"event_id":\n', "not JSON: .* line [23] column"),
    "two objects": (body() * 2, "not JSON: trailing characters at line 1 column [0-9]+"),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf{}", "not JSON: .* line 1 column 1"),
    "a name twice": ('{"user_id": "u-1", "user_id": "u-2"}', "user_id: duplicate name$"),
    "a name twice, deep down": (
        body(x=0).replace('"x": 0', '"x": [{"y": 1, "\\u0079": 1}]'),
        "x.0.y: duplicate name$",
    ),
    "a raw control character": ('{"event_id": "a\nb"}', "not JSON: control character"),
    "an array": ("[1]", "expected a JSON object, got an array"),
    "a string": ('"x"', "expected a JSON object, got a string"),
    "a number": ("1", "expected a JSON object, got a number"),
    "null": ("null", "expected a JSON object, got null"),
    "true": ("true", "expected a JSON object, got a boolean"),
    "NaN": ('{"event_id": NaN}', "not JSON: .* at line 1 column 1[0-9]"),
    "Infinity": ('{"x": -Infinity}', "not JSON: .* at line 1 column [0-9]+"),
}


@pytest.mark.parametrize(("text", "detail"), MALFORMED_INPUT.values(), ids=list(MALFORMED_INPUT))
def test_undecodable_body_is_malformed_and_its_position_is_reported(
    text: str | bytes, detail: str
) -> None:
    refused = _refused(text)
    assert refused.reason is MALFORMED
    _match(detail, refused.detail)


def _match(pattern: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{pattern}"):
        raise ValueError(text)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"event_id":['])
def test_deep_nesting_is_rejected_fast(opening: str) -> None:
    bomb = opening * (1_048_576 // len(opening))
    seconds = []
    for _ in range(3):
        begun_at = time.perf_counter()
        refused = _refused(bomb)
        seconds.append(time.perf_counter() - begun_at)
    assert min(seconds) < 0.05
    assert refused.reason is MALFORMED
    _match("not JSON: recursion limit exceeded at line 1 column [0-9]+", refused.detail)


INVALID_INPUT: dict[str, tuple[dict[str, Any], str]] = {
    **{
        f"{field} missing": ({field: ABSENT}, f"{field}: missing")
        for field in ("user_id", "policy_id", "version", "accepted_at", "event_id")
    },
    **{
        f"{field} empty": ({field: ""}, f"{field}: ")
        for field in ("event_id", "user_id", "policy_id", "version", "accepted_at")
    },
    **{
        f"{field} blank": ({field: "  "}, f"{field}: must not be blank")
        for field in ("event_id", "user_id", "policy_id", "version")
    },
    **{
        f"{field} wrongly typed": ({field: 12}, f"{field}: must be a string")
        for field in Acceptance.model_fields
    },
    **{
        f"{field} over-long": ({field: IP * 200}, f"{field}: ") for field in Acceptance.model_fields
    },
    "event_id null": ({"event_id": None}, "event_id: must be a string"),
    "policy_id with the separator": ({"policy_id": "a#b"}, "policy_id: must not contain '#'"),
    **{
        f"{field} with U+{ord(character):04X}": (
            {field: f"a{character}b"},
            f"{field}: must not contain control characters$",
        )
        for field in ("event_id", "user_id", "policy_id", "version")
        for character in "\x00\t\n\x1f\x7f\x80\x85\x9f"
    },
    "content_sha256 too short": ({"content_sha256": "abc"}, "content_sha256: must match"),
    "time without offset": (
        {"accepted_at": "2026-11-22T10:00:00"},
        "accepted_at: must be an RFC 3339 time with an offset",
    ),
    "no time": ({"accepted_at": "yesterday"}, "accepted_at: must be an RFC 3339 time"),
    "no such day": ({"accepted_at": "2026-02-30T10:00:00Z"}, "accepted_at: not a valid time: day"),
    "time as a number": ({"accepted_at": 1_700_000_000}, "accepted_at: must be"),
    "time in the future": (
        {"accepted_at": "2026-11-22T10:05:01Z"},
        "accepted_at: 2026-11-22T10:05:01Z is in the future: more than 300 s after 2026-11-22",
    ),
    "unknown fields too large": (
        {"big": "x" * 400_000},
        "unknown fields: must not exceed 350000 bytes",
    ),
    "an infinite number": ({"big": 0}, "unknown fields: a number is out of range"),
}


@pytest.mark.parametrize(("changes", "detail"), INVALID_INPUT.values(), ids=list(INVALID_INPUT))
def test_invalid_field_is_reported_by_name(changes: dict[str, Any], detail: str) -> None:
    text = body(**changes).replace('"big": 0', '"big": 1e999')
    refused = _refused(text)
    assert refused.reason is INVALID
    if "unknown fields" in detail:
        assert refused.detail.startswith(detail)
    else:
        _match(detail, refused.detail)


def test_all_invalid_fields_are_reported_at_once() -> None:
    refused = _refused(body(user_id=ABSENT, ip=7, accepted_at="never"))
    assert refused.detail.startswith("user_id: missing; accepted_at: must be")
    assert refused.detail.endswith("ip: must be a string")


def test_time_within_the_clock_skew_is_accepted() -> None:
    for moment in ("2026-11-22T10:05:00Z", "2026-11-22T12:04:59+02:00"):
        assert _decode(body(accepted_at=moment)).accepted_at == moment


def test_clock_skew_is_independent_of_offsets() -> None:
    assert _refused(body(accepted_at="2026-11-22T09:00:00-02:00")).reason is INVALID


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_time_at_the_ends_of_the_calendar_is_handled(moment: str) -> None:
    text = body(accepted_at=moment)
    if moment.startswith("0001"):
        assert _decode(text).accepted_at == moment
    else:
        assert _refused(text).reason is INVALID


def test_unknown_fields_are_kept() -> None:
    assert json.loads(_decode(body(referrer={"a": [1]})).extra) == {"referrer": {"a": [1]}}


def _cloud_event(inner: Any) -> Any:
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": inner}


def _cloud_event_base64(inner: Any) -> Any:
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
    return {**event, "data_base64": base64.b64encode(json.dumps(inner).encode()).decode()}


def _cloud_event_text(inner: Any) -> Any:
    return _cloud_event(json.dumps(inner))


def _sns(inner: Any) -> Any:
    return {
        "Type": "Notification",
        "MessageId": "m",
        "TopicArn": "arn:aws:sns:eu-west-1:1:t",
        "Message": json.dumps(inner),
    }


def _event_bridge(inner: Any) -> Any:
    return {"version": "0", "id": "1", "detail-type": "Accepted", "source": "s", "detail": inner}


ENVELOPES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "CloudEvent": (_cloud_event, "data"),
    "CloudEvent in base64": (_cloud_event_base64, "data_base64"),
    "CloudEvent with text": (_cloud_event_text, "data"),
    "SNS": (_sns, "Message"),
    "EventBridge": (_event_bridge, "detail"),
}
EACH_ENVELOPE = pytest.mark.parametrize(("wrap", "path"), ENVELOPES.values(), ids=list(ENVELOPES))


@EACH_ENVELOPE
def test_acceptance_is_found_in_its_envelope(wrap: Callable[[Any], Any], path: str) -> None:
    assert path
    assert _decode(json.dumps(wrap(message()))) == acceptance()


@EACH_ENVELOPE
@pytest.mark.parametrize(("outer", "outer_path"), ENVELOPES.values(), ids=list(ENVELOPES))
def test_acceptance_is_found_in_nested_envelopes(
    wrap: Callable[[Any], Any], path: str, outer: Callable[[Any], Any], outer_path: str
) -> None:
    assert _decode(json.dumps(outer(wrap(message())))) == acceptance()
    refused = _refused(json.dumps(outer(wrap(message(version=ABSENT)))))
    assert (refused.reason, refused.detail) == (INVALID, f"{outer_path}.{path}.version: missing")


def test_nesting_of_envelopes_is_limited() -> None:
    inner: Any = message()
    for _ in range(4):
        inner = _event_bridge(inner)
    assert _decode(json.dumps(inner)) == acceptance()
    refused = _refused(json.dumps(_event_bridge(inner)))
    assert refused.reason is INVALID
    assert refused.detail.startswith("detail.detail.detail.detail: an acceptance inside detail")


@EACH_ENVELOPE
def test_time_in_the_future_is_reported_with_its_path_in_the_envelope(
    wrap: Callable[[Any], Any], path: str
) -> None:
    refused = _refused(json.dumps(wrap(message(accepted_at="2030-01-01T00:00:00Z"))))
    assert refused.detail.startswith(f"{path}.accepted_at: 2030-01-01T00:00:00Z is in the future")


OTHER_ENVELOPES: dict[str, tuple[dict[str, Any], Reason, str]] = {
    "EventBridge about something else": (
        _event_bridge({"instance-id": "i-1", "state": "running"}),
        INVALID,
        "detail.event_id: missing",
    ),
    "EventBridge without detail": (
        {"detail-type": "x", "source": "s"},
        INVALID,
        "detail: missing in this EventBridge event",
    ),
    "EventBridge with a null detail": (
        _event_bridge(None),
        INVALID,
        "detail: expected a JSON object, got null",
    ),
    "SNS about something else": (_sns({"Records": []}), INVALID, "Message: a list of Records"),
    "SNS subscription": (
        {"Type": "SubscriptionConfirmation", "TopicArn": "a", "Message": "You have chosen"},
        INVALID,
        "Type: an SNS SubscriptionConfirmation, ",
    ),
    "SNS without a message": (
        {"Type": "Notification", "TopicArn": "a"},
        INVALID,
        "Message: missing in this SNS notification",
    ),
    "SNS with a message that is no text": (
        {"Type": "Notification", "TopicArn": "a", "Message": message()},
        INVALID,
        "Message: must be a string",
    ),
    "SNS with plain text": (
        {"Type": "Notification", "TopicArn": "a", "Message": f"hello {IP}"},
        MALFORMED,
        "Message: not JSON: ",
    ),
    "CloudEvent without data": (
        {"specversion": "1.0", "id": "1", "source": "s", "type": "t"},
        INVALID,
        "data: missing in this CloudEvent",
    ),
    "CloudEvent with broken base64": (
        {"specversion": "1.0", "data_base64": "!!!"},
        MALFORMED,
        "data_base64: not base64",
    ),
    "CloudEvent with base64 that is no text": (
        {"specversion": "1.0", "data_base64": 7},
        MALFORMED,
        "data_base64: not base64",
    ),
    "CloudEvent with base64 that is not UTF-8": (
        {"specversion": "1.0", "data_base64": base64.b64encode(b"\xff").decode()},
        MALFORMED,
        "data_base64: not UTF-8 at character 0",
    ),
    "CloudEvent with an array": (
        _cloud_event([1]),
        INVALID,
        "data: expected a JSON object, got an array",
    ),
    "SNS of a later kind": (
        {"Type": "Later", "TopicArn": "a"},
        INVALID,
        "Type: not an SNS notification",
    ),
    "an empty object": ({}, INVALID, "event_id: missing"),
}


@pytest.mark.parametrize(
    ("data", "reason", "detail"), OTHER_ENVELOPES.values(), ids=list(OTHER_ENVELOPES)
)
def test_other_envelope_is_rejected_with_what_it_lacks(
    data: dict[str, Any], reason: Reason, detail: str
) -> None:
    refused = _refused(json.dumps(data))
    assert refused.reason is reason
    assert refused.detail.startswith(detail)


@EACH_ENVELOPE
def test_duplicate_name_in_an_envelope_is_reported_with_its_path(
    wrap: Callable[[Any], Any], path: str
) -> None:
    # Inserted into the complete text, at any depth of escaping or encoding.
    one, two = json.dumps(wrap(message(x="u-1"))), json.dumps(wrap(message(x="u-2")))
    inner = body()[:-1] + ', "channel": "mail"}'
    if path == "data_base64":
        text = json.dumps(_cloud_event_base64(None) | {
            "data_base64": base64.b64encode(inner.encode()).decode()
        })  # fmt: skip
    elif one.count('\\"x\\"'):
        text = json.dumps(wrap(None) | {path: inner})
    else:
        text = json.dumps(wrap("HERE")).replace('"HERE"', inner)
    assert one != two
    refused = _refused(text)
    assert (refused.reason, refused.detail) == (MALFORMED, f"{path}.channel: duplicate name")


@EACH_ENVELOPE
def test_byte_order_mark_is_skipped_in_every_text(wrap: Callable[[Any], Any], path: str) -> None:
    assert _decode(b"\xef\xbb\xbf" + json.dumps(wrap(message())).encode()) == acceptance()
    if path == "Message":
        text = json.dumps(_sns(0) | {"Message": "\ufeff" + body()})
        assert _decode(text) == acceptance()
    if path == "data_base64":
        packed = base64.b64encode(b"\xef\xbb\xbf" + body().encode()).decode()
        assert _decode(json.dumps(_cloud_event_base64(0) | {path: packed})) == acceptance()


def test_invisible_characters_other_than_control_characters_are_kept() -> None:
    for character in "\u200b\u202e\u2028\u2066\ufeff\uffff\u00a0":
        assert _decode(body(user_id=f"a{character}b")).user_id == f"a{character}b"


def test_detail_never_contains_personal_data() -> None:
    for field in ("ip", "user_agent", "session_id"):
        for value in ([IP, USER_AGENT, SESSION_ID], (IP + USER_AGENT + SESSION_ID) * 100):
            assert _refused(body(**{field: value})).detail.startswith(f"{field}")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=15,
)


@given(changes=st.dictionaries(st.sampled_from([*Acceptance.model_fields, "x"]), _JSON))
def test_any_fields_are_an_acceptance_or_rejected_with_a_reason(
    changes: dict[str, Any],
) -> None:
    # Any other exception fails the test.
    with suppress(RefusedError):
        _decode(json.dumps(message(**changes)))


@given(st.binary(max_size=60))
def test_any_bytes_are_rejected_with_a_reason(content: bytes) -> None:
    with pytest.raises(RefusedError):
        _decode(content)


_PLAIN = {
    "all fields": body(),
    "a null field": body(locale=None),
    "unknown fields": body(x={"a": ["b", None, {"c": "d"}]}, y="z"),
    "escapes": body(user_agent='é"\\"\n', x={'"': "\\"}),
    "bytes": body().encode(),
}
_NOT_PLAIN = {
    "a duplicate name": body()[:-1] + ', "ip": "192.0.2.1"}',
    "a duplicate name and as many nulls": body(locale=None, method=None)[:-1]
    + ', "ip": "192.0.2.1"}',
    "a duplicate name with null": body()[:-1] + ', "ip": null}',
    "a duplicate of an unknown name": body()[:-1] + ', "x": [], "x": []}',
    "a duplicate name in an unknown field": body()[:-1] + ', "x": [{"a": 1, "a": 2}]}',
    "an escaped duplicate name": body()[:-1] + ', "\\u0069p": "192.0.2.1"}',
    "an envelope": json.dumps({"specversion": "1.0", "data": message()}),
    "a byte order mark": "\ufeff" + body(),
    "a lone surrogate": body()[:-1] + ', "x": "\ud800"}',
    "an infinite number": body()[:-1] + ', "x": [1e400]}',
    "not a number": body()[:-1] + ', "x": NaN}',
    "a long body": body(x="y" * 10_000),
    "a wrong type": body(ip=7),
}


@pytest.mark.parametrize("text", _PLAIN.values(), ids=list(_PLAIN))
def test_plain_body_is_parsed_once(text: str | bytes) -> None:
    assert check_plain(text)


@pytest.mark.parametrize("text", _NOT_PLAIN.values(), ids=list(_NOT_PLAIN))
def test_any_other_body_is_left_to_the_thorough_path(text: str) -> None:
    assert decode_plain(text) is None


@given(changes=st.dictionaries(st.sampled_from([*Acceptance.model_fields, "x", "y"]), _JSON))
def test_both_paths_return_the_same_acceptance(changes: dict[str, Any]) -> None:
    text = json.dumps(message(**changes))
    check_plain(text)
    check_plain(f"{text[:-1]}, {text[1:]}")


_EXACT = {
    "a decimal": "1.10",
    "an exponent": "1E5",
    "a long number": "12345678901234567890.123456789",
    "minus zero": "-0",
    "an escape": r'"\u00e9\/"',
    "white space": '{ "a" : [1.0 ,\n 2] }',
    "a large integer": "9" * 300,
}


def _envelopes(text: str) -> dict[str, str]:
    encoded = base64.b64encode(text.encode()).decode()
    event = f'{{ "specversion": "1.0", "data" : {text} }}'
    return {
        "bare": text,
        "with a byte order mark": f"\ufeff{text}",
        "CloudEvent": event,
        "CloudEvent with text": json.dumps({"specversion": "1.0", "data": text}),
        "CloudEvent in base64": json.dumps({"specversion": "1.0", "data_base64": encoded}),
        "SNS": json.dumps({"Type": "Notification", "TopicArn": "a", "Message": text}),
        "EventBridge in SNS": json.dumps(
            {
                "Type": "Notification",
                "TopicArn": "a",
                "Message": f'{{"detail-type":"x","detail":{event}}}',
            }
        ),
    }


@pytest.mark.parametrize("envelope", _envelopes(""))
@pytest.mark.parametrize("value", _EXACT.values(), ids=_EXACT)
def test_unknown_field_keeps_its_exact_text(value: str, envelope: str) -> None:
    text = f'{{ "before" : {value} ,{body()[1:-1]},"after":{value}}}'
    found = _decode(_envelopes(text)[envelope])
    assert found.extra == f'{{"before":{value},"after":{value}}}'
    assert found.model_copy(update={"ip": None}).extra == found.extra


def test_number_outside_the_range_of_a_double_is_refused() -> None:
    for number in ("1e400", "9" * 400, "-1e400"):
        refused = _refused(f'{body()[:-1]},"n":{number}}}')
        assert refused.reason in {INVALID, MALFORMED}


def test_size_of_unknown_fields_counts_their_text_as_written() -> None:
    padded = f'{body()[:-1]},"n":[{" " * EXTRA_MAX_BYTES}]}}'
    assert _refused(padded).detail == "unknown fields: must not exceed 350000 bytes in total"
    assert len(_decode(padded.replace(" " * EXTRA_MAX_BYTES, " " * 1000)).extra) > 1000
