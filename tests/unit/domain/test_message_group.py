"""Message groups: fields and values, and the rules of MessageGroupId."""

from __future__ import annotations

import string
from typing import Any

import pytest

from tests.unit.fakes import body
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode_any
from worker.domain.message_group import MessageGroup

# As the API reference of SendMessage lists them.
_ALLOWED = string.ascii_letters + string.digits + string.punctuation


def _acceptance(**fields: Any) -> Acceptance:
    return decode_any(body(**fields))[0]


@pytest.mark.parametrize("text", ["tenant-7", "a" * 128, _ALLOWED, "extra.", "ipv4"])
def test_other_text_is_the_group_of_every_message(text: str) -> None:
    assert MessageGroup.parse(text) == MessageGroup(value=text)
    assert MessageGroup.parse(text).of(_acceptance()) == text


@pytest.mark.parametrize("text", ["", "a" * 129, "two words", "ñ", "a\n", "\x7f"])
def test_value_that_sqs_would_reject_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be 1 to 128 ASCII letters"):
        MessageGroup.parse(text)


@pytest.mark.parametrize("field", ["ip", "user_agent", "session_id"])
def test_private_field_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match=r"^private fields cannot be groups"):
        MessageGroup.parse(field)


def test_group_is_read_from_a_field_known_or_not() -> None:
    acceptance = _acceptance(user_id="u-1", on_behalf_of="acme", tenant="t-1", number=17)
    fields = ("user_id", "on_behalf_of", "extra.tenant", "extra.number")
    assert [MessageGroup.parse(each).of(acceptance) for each in fields] == [
        "u-1", "acme", "t-1", "17",
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["on_behalf_of", "extra.tenant"])
def test_message_without_the_field_has_no_group(field: str) -> None:
    assert MessageGroup.parse(field).of(_acceptance(on_behalf_of=None)) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("two words", "must be 1 to 128"),
        ("", "must be 1 to 128"),
        ("a" * 129, "must be 1 to 128"),
        (True, "must be a string or an integer"),
        (1.5, "must be a string or an integer"),
        ({"a": 1}, "must be a string or an integer"),
    ],
)
def test_value_of_a_field_is_checked_and_not_quoted(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^extra.tenant: {problem}") as caught:
        MessageGroup.parse("extra.tenant").of(_acceptance(tenant=value))
    assert "two words" not in str(caught.value)
