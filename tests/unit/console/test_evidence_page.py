"""The evidence page verifies every record, and discloses personal fields only when asked."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientResponse
from msgspec.structs import replace
from structlog.testing import capture_logs

from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import (
    IP,
    ORIGIN,
    SESSION_ID,
    TEXT,
    USER_AGENT,
    acceptance,
    policy,
)
from worker.domain.text_content import TextContent
from worker.errors import AWSDeniedError
from worker.operations.evidence.document import verify_document

PERSONAL = (IP, USER_AGENT, SESSION_ID)
KEY = "acceptable-use#2026-01"


async def _record(console: Console, number: int = 1, **changes: Any) -> None:
    origin = replace(ORIGIN, message_id=f"message-{number}")
    await console.context.repository.record(acceptance(number, **changes), TEXT, origin)


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    async with opened_console(await fast_world()) as opened:
        await opened.context.repository.publish_policy(
            policy(), TextContent(b"Be kind.", "text/plain")
        )
        yield opened


async def _disclosed(console: Console, *fields: str) -> str:
    stated = [("user", "u-1"), *(("field", f"{each} {KEY}") for each in fields)]
    response = await console.post("/evidence", stated)
    assert response.status == 200
    return await response.text()


async def test_page_asks_for_a_user_first(console: Console) -> None:
    assert "Whose acceptances?" in await console.text("/evidence")


async def test_record_is_verified_with_its_text(console: Console) -> None:
    await _record(console)
    page = html.unescape(await console.text("/evidence?user=u-1"))
    assert "1 record verified: no record and no text was altered" in page
    assert "User u-1 accepted version 2026-01 of the policy “Acceptable Use Policy”" in page
    assert "Verified: the record was not altered since it was recorded." in page
    assert "Be kind.</pre>" in page


async def test_altered_record_is_reported(console: Console) -> None:
    await _record(console)
    [item] = console.world.records()
    item["channel"] = "paper"
    table = console.world.dynamodb.tables["aup-acceptances"]
    await console.world.dynamodb.put_item(TableName="aup-acceptances", Item=item)
    assert table.items() == [item]
    page = await console.text("/evidence?user=u-1")
    assert "Verification failed for 1 of 1 record" in page
    assert "NOT VERIFIED" in page


async def test_personal_fields_are_masked_everywhere(console: Console) -> None:
    await _record(console, note=f"seen at {IP}")
    page = await console.text("/evidence?user=u-1")
    assert not [each for each in PERSONAL if html.escape(each) in page]
    masked = re.findall(r'name="field" value="(\w+) ' + KEY + '"', page)
    assert masked == ["ip", "user_agent", "session_id", "extra"]
    assert not re.search("_salt", page)


async def test_each_disclosure_is_one_field_and_one_line_of_log(console: Console) -> None:
    await _record(console)
    with capture_logs() as lines:
        page = await _disclosed(console, "ip")
    assert [IP in page, USER_AGENT in page, SESSION_ID in page] == [True, False, False]
    assert lines == [
        {
            "event": "field disclosed",
            "log_level": "info",
            "operator": "alice",
            "identity": None,
            "page": "evidence",
            "user": "u-1",
            "record": KEY,
            "field": "ip",
        }
    ]


async def test_fields_disclosed_before_stay_and_are_logged_again(console: Console) -> None:
    await _record(console)
    page = await _disclosed(console, "ip")
    assert f'<input type="hidden" name="field" value="ip {KEY}">' in page
    with capture_logs() as lines:
        page = await _disclosed(console, "ip", "session_id")
    assert [IP in page, USER_AGENT in page, SESSION_ID in page] == [True, False, True]
    assert [each["field"] for each in lines] == ["ip", "session_id"]


@pytest.mark.parametrize(
    "fields", [[("user", "u-1"), ("field", "ip_salt " + KEY)], [("field", "ip " + KEY)]]
)
async def test_nothing_else_can_be_disclosed(
    console: Console, fields: list[tuple[str, str]]
) -> None:
    with capture_logs() as lines:
        assert (await console.post("/evidence", fields)).status == 400
    assert lines == []


async def test_a_get_discloses_nothing(console: Console) -> None:
    await _record(console)
    assert IP not in await console.text(f"/evidence?user=u-1&field=ip+{KEY.replace('#', '%23')}")


async def _exported(console: Console, format_: str) -> ClientResponse:
    response = await console.post("/evidence/export", {"user": "u-1", "format": format_})
    assert response.status == 200
    return response


async def test_exported_file_verifies_and_is_logged(console: Console) -> None:
    await _record(console)
    with capture_logs() as lines:
        response = await _exported(console, "json")
    assert response.headers["Content-Disposition"] == 'attachment; filename="evidence.json"'
    found = verify_document(json.loads(await response.text()), 300)
    assert (found.sound, len(found.verifications)) == (True, 1)
    [line] = lines
    assert (line["event"], line["user"], line["format"], line["records"]) == (
        "evidence exported", "u-1", "json", 1,
    )  # fmt: skip


async def test_printable_page_has_its_own_style_and_nothing_else(console: Console) -> None:
    await _record(console)
    response = await _exported(console, "html")
    page = await response.text()
    assert "Policy acceptances by u-1" in page
    policy_ = response.headers["Content-Security-Policy"]
    assert re.match(r"default-src 'none'; style-src 'sha256-[\w+/=]{44}';", policy_)


async def test_export_without_a_user_is_refused(console: Console) -> None:
    assert (await console.post("/evidence/export", {"format": "json"})).status == 400


async def test_policy_limits_the_records_and_states_what_is_in_force(console: Console) -> None:
    await _record(console)
    page = await console.text("/evidence?user=u-1&policy=acceptable-use")
    assert "Version of acceptable-use in force: accepted." in page
    page = await console.text("/evidence?user=u-1&policy=other")
    assert "No acceptance of other by u-1 recorded" in page


async def test_error_of_a_field_stands_beside_it(console: Console) -> None:
    page = await console.text(f"/evidence?user={'u' * 257}")
    assert 'id="user-problem"' in page
    assert 'aria-describedby="user-problem"' in page


async def test_hostile_values_are_escaped(console: Console) -> None:
    hostile = "<script>alert(1)</script>\u202e"
    await _record(console, user_id=hostile, on_behalf_of=hostile)
    response = await console.get("/evidence", params={"user": hostile})
    page = await response.text()
    assert "1 record verified" in page
    assert "<script>alert" not in page
    assert "\u202e" not in re.sub(r'value="[^"]*"', "", page)


async def test_denied_access_is_said_plainly(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def denied(user: str, _: object) -> AsyncIterator[dict[str, Any]]:
        if user:
            raise AWSDeniedError("AccessDeniedException: not authorized to perform: dynamodb:Query")
        yield {}

    monkeypatch.setattr(console.context.repository, "acceptances", denied)
    page = await console.text("/evidence?user=u-1", 403)
    assert "<h1>Not permitted</h1>" in page
    assert "dynamodb:Query" in page
