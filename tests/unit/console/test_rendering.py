"""Templates escape everything, and show times, hashes and numbers in one way."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
from jinja2 import UndefinedError

from tests.simulation.virtual_clock import START as NOW
from tests.unit.console.opened import NoAges
from tests.unit.fakes import FakeQueue, aws_settings, settings
from worker.aws.cloudwatch import CloudWatch
from worker.console import rendering
from worker.console.context import ConsoleContext, ConsoleOptions
from worker.console.rendering import NONE, UNKNOWN, Renderer, asset_url, change, number, short_hash
from worker.console.status_feed import StatusFeed
from worker.operations.doctor.result import CheckResult, passed, unknown, warned

_HASH = "0123456789abcdef" * 4


async def _queues() -> tuple[FakeQueue, FakeQueue]:
    return FakeQueue(), FakeQueue()


async def _renderer(identity: CheckResult | None = None) -> Renderer:
    context = ConsoleContext(
        settings(),
        ConsoleOptions("alice"),
        cast("Any", None),
        _queues,
        StatusFeed(_queues, cast("CloudWatch", NoAges()), ()),
        now=lambda: NOW,
        identity=identity,
    )
    return Renderer(context, [("overview", "Overview", "/")])


async def _rendered(template: str, **values: Any) -> str:
    renderer = await _renderer()
    created = renderer._environment.from_string(template)
    with patch.object(renderer._environment, "get_template", return_value=created):
        return renderer.render("any", active="", **values)


async def test_header_names_the_region_of_the_profile_where_the_settings_have_none() -> None:
    renderer = await _renderer()
    context = renderer._context
    context.settings = settings(aws=aws_settings(region=None))
    context.session = cast("Any", SimpleNamespace(region_name="eu-north-1"))
    shown = renderer.render("problem.html", active="", reason="r", text="t")
    assert "<dd>eu-north-1</dd>" in shown


async def test_values_are_escaped() -> None:
    shown = await _rendered('<p title="{{ v }}">{{ v }}</p>', v='"><script>alert(1)</script>')
    assert shown == (
        '<p title="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;">'
        "&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;</p>"
    )


async def test_hidden_characters_are_shown_as_escapes() -> None:
    shown = await _rendered("{{ v }}", v="a\u202eb\x00c\nd\ud800e\u2028f")
    assert shown == r"a\u202eb\u0000c\u000ad\ud800e\u2028f"


async def test_text_of_several_lines_keeps_its_lines() -> None:
    shown = await _rendered("{{ v|lines }}", v="a\r\n\tb <i>\u202e")
    assert shown == "a\r\n\tb &lt;i&gt;\\u202e"


async def test_absent_value_is_a_dash_and_an_unknown_name_an_error() -> None:
    assert await _rendered("{{ v }}", v=None) == NONE
    with pytest.raises(UndefinedError):
        await _rendered("{{ missing }}")


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, "0 s ago"), (119, "119 s ago"), (120, "2 min ago"), (-7200, "in 2 h"), (2e5, "2 d ago")],
)
async def test_time_is_relative_with_the_absolute_one_as_title(age: float, text: str) -> None:
    at = NOW - timedelta(seconds=age)
    shown = (await _renderer()).when(at)
    assert shown == (
        f'<time datetime="{at.isoformat()}" title="{at:%Y-%m-%d %H:%M:%S} UTC" data-relative>'
        f"{text}</time>"
    )


async def test_stated_time_is_shown_in_utc() -> None:
    shown = (await _renderer()).time("2026-01-15T11:00:00+01:00")
    assert 'datetime="2026-01-15T10:00:00+00:00"' in shown
    assert ">2026-01-15 10:00:00 UTC</time>" in shown


@pytest.mark.parametrize(("value", "shown"), [(None, UNKNOWN), ("<soon>", "&lt;soon&gt;")])
async def test_what_is_not_a_time_is_shown_as_it_is(value: Any, shown: str) -> None:
    renderer = await _renderer()
    assert renderer.when(value) == renderer.time(value) == shown


@pytest.mark.parametrize(("hours", "marked"), [(23, True), (25, False), (-1, True)])
async def test_expiry_within_a_day_is_marked(hours: int, marked: bool) -> None:
    shown = (await _renderer()).left(NOW + timedelta(hours=hours))
    assert (" class=soon>" in shown) is marked


def test_hash_is_short_with_the_whole_to_copy() -> None:
    shown = short_hash(_HASH, "hash of the text")
    assert f'<code title="{_HASH}">0123456789ab</code>' in shown
    assert f'data-copy="{_HASH}" hidden' in shown
    assert 'aria-label="Copy the hash of the text"' in shown
    assert short_hash(None) == NONE


def test_hash_from_a_message_is_escaped() -> None:
    assert "<b>" not in short_hash("<b>" * 5)


def test_numbers() -> None:
    assert (number(1234567), number(1.26, 1), number(None)) == ("1,234,567", "1.3", UNKNOWN)
    assert [change(each) for each in (1.24, -2.0, 0.04, -0.04, None)] == [
        "+1.2", "-2.0", "0.0", "0.0", UNKNOWN,
    ]  # fmt: skip


def test_address_of_an_asset_changes_with_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    before = asset_url("console.css")
    monkeypatch.setattr(rendering, "asset", lambda _: b"other")
    assert before != asset_url("console.css")


@pytest.mark.parametrize(
    ("identity", "account", "role", "why"),
    [
        (None, "", "", ""),
        (passed("identity", "arn:aws:sts::123456789012:assumed-role/auditor/alice"),
         "123456789012", "auditor", ""),
        (passed("identity", "arn:aws:iam::123456789012:user/team/alice"), "123456789012", "team",
         ""),
        (warned("identity", "arn:aws:iam::123456789012:root has every permission", "no"),
         "123456789012", "root", ""),
        (unknown("identity", "STS has no endpoint", "set one"), "", "", "STS has no endpoint"),
    ],
)  # fmt: skip
async def test_header_names_account_and_role(
    identity: CheckResult | None, account: str, role: str, why: str
) -> None:
    renderer = await _renderer(identity)
    shown = renderer.render("problem.html", active="", reason="r", text="t")
    assert (f"<dd>{account}</dd>" in shown) is bool(account)
    assert (f"<dd>{role}</dd>" in shown) is bool(role)
    assert (f'title="{why}"' in shown) is bool(why)
