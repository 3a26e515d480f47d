"""Pages Dead letters and Dead letter: filters in the URL, selection, export, masks and edits."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.private import PRIVATE
from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import body, policy
from tests.unit.operations.dead_letters.dead_letter_queue import (
    send_dead_letters,
    visible_and_in_flight,
)
from worker.console.masking import MASK
from worker.domain.text_content import TextContent
from worker.errors import AWSDeniedError
from worker.operations.dead_letters import scan
from worker.operations.dead_letters.dead_letter import DeadLetter

_MARKUP = "<script>window.executed=1</script>"
_TEXT = TextContent(b"<p>Be <b>kind</b>.</p>", "text/html")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(scan, "_POLL_SECONDS", 0)  # the time is real


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    """Return an open console, on an empty queue."""
    async with opened_console(await fast_world()) as opened:
        yield opened


async def _scanned(console: Console) -> list[DeadLetter]:
    console.context.scans.look(again=True)
    await console.context.scans.settle()
    return [each.summary for each in console.context.scans.snapshot.by_expiry()]


def _ids(page: str) -> list[str]:
    return re.findall(r'name="id" value="([^"]+)"', page)


async def test_first_view_starts_a_scan_and_says_so(console: Console) -> None:
    await send_dead_letters(console.world, 3)
    page = await console.text("/dead-letters")
    assert "The first scan runs" in page
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    await console.context.scans.settle()
    page = await console.text("/dead-letters")
    assert len(_ids(page)) == 3
    assert "refresh" not in page


async def test_empty_queue_is_all_well(console: Console) -> None:
    await _scanned(console)
    assert "No dead letters" in await console.text("/dead-letters")


async def test_counts_by_reason_come_first_and_filter(console: Console) -> None:
    await send_dead_letters(console.world, 3, reason="invalid")
    await send_dead_letters(console.world, 2, reason="conflict")
    await _scanned(console)
    page = await console.text("/dead-letters")
    cards = re.findall(r'href="(/dead-letters[^"]*)"[^>]*><span class="name" title="(\w+)"', page)
    assert cards == [
        ("/dead-letters?reason=invalid", "invalid"),
        ("/dead-letters?reason=conflict", "conflict"),
    ]
    page = await console.text("/dead-letters?reason=conflict")
    assert len(_ids(page)) == 2
    assert page.index('title="invalid"') < page.index('title="conflict"')
    assert 'href="/dead-letters" aria-current="true"' in page


async def test_limit_applies_to_rows_and_not_to_counts(console: Console) -> None:
    await send_dead_letters(console.world, 5)
    await _scanned(console)
    page = await console.text("/dead-letters?limit=2")
    assert len(_ids(page)) == 2
    assert '<span class="swatch series-invalid"></span>5</b>' in page


async def test_personal_values_in_a_filter_are_not_logged(console: Console) -> None:
    with capture_logs() as lines:
        await console.post("/dead-letters/scan", {"grep": PRIVATE["ip"]}, allow_redirects=False)
    assert lines[0]["filter"] == f"--grep {MASK}"


async def test_form_leads_to_the_shortest_address(console: Console) -> None:
    response = await console.get(
        "/dead-letters?user=&reason=invalid&since=&grep=+x+&utm=1", allow_redirects=False
    )
    assert (response.status, response.headers["Location"]) == (
        303, "/dead-letters?reason=invalid&grep=x"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("reason=invalid", 4),
        ("user=u-1", 2),
        ("user=u-1&user=u-2", 3),
        ("policy=acceptable-use&version=2026-01", 6),
        ("since=1h", 0),
        ("until=1h", 6),
        ("grep=%22event-3%22", 1),
        ("grep=event&reason=conflict", 2),
        ("limit=2", 2),
    ],
)
async def test_filters_of_the_cli_select_rows(console: Console, query: str, count: int) -> None:
    await send_dead_letters(console.world, 4)
    await send_dead_letters(console.world, 2, reason="conflict")
    await _scanned(console)
    page = await console.text(f"/dead-letters?{query}")
    assert len(_ids(page)) == count
    if not count:
        assert "no dead letters match; 6 others seen" in page


@pytest.mark.parametrize(
    ("query", "field", "problem"),
    [
        ("since=x", "since", "since x: expected a time such as 2026-11-22T10:00:00Z or an age"),
        ("until=5y", "until", "until 5y: expected a time"),
        ("grep=(", "grep", "grep (: invalid regular expression: "),
        ("limit=0", "limit", "limit 0: expected a number from 1 to 1,000,000"),
    ],
)
async def test_invalid_field_is_explained_beside_it_in_the_words_of_the_cli(
    console: Console, query: str, field: str, problem: str
) -> None:
    page = unescape(await console.text(f"/dead-letters?{query}", 400))
    assert problem in page
    assert f'aria-invalid="true" aria-describedby="e-{field}"' in page
    value = query.partition("=")[2]
    assert f'name="{field}" value="{value}"' in page


async def test_pages_of_a_long_list(console: Console) -> None:
    await send_dead_letters(console.world, 60)
    await _scanned(console)
    first = await console.text("/dead-letters?reason=invalid")
    last = await console.text("/dead-letters?reason=invalid&page=99")
    assert (len(_ids(first)), len(_ids(last))) == (20, 20)
    assert 'rel="next" href="?reason=invalid&amp;page=2"' in first
    assert "41 to 60 of 60" in last
    assert not set(_ids(first)) & set(_ids(last))


async def test_texts_of_messages_are_escaped(console: Console) -> None:
    changes = {"user_id": _MARKUP, "policy_id": _MARKUP, "version": _MARKUP}
    await send_dead_letters(console.world, 1, reason=_MARKUP, body=body(1, **changes))
    [letter] = await _scanned(console)
    for path in ("/dead-letters", f"/dead-letters/{letter.message_id}", "/replay?all=1"):
        page = await console.text(path)
        assert "<script>window" not in page
        assert "&lt;script&gt;" in page


async def test_new_dead_letters_are_offered_and_do_not_move_rows(console: Console) -> None:
    await send_dead_letters(console.world, 2)
    await _scanned(console)
    page = await console.text("/dead-letters?reason=invalid")
    address = re.search(r'data-live="([^"]+)"', page)
    assert address is not None
    await send_dead_letters(console.world, 3)
    await send_dead_letters(console.world, 4, reason="conflict")
    await _scanned(console)
    response = await console.get(unescape(address[1]))
    events = [await response.content.readuntil(b"\n\n") for _ in range(3)]
    response.close()
    assert events[2] == b'event: news\ndata: {"count": 3}\n\n'


async def test_page_without_a_scan_is_loaded_again_when_there_is_one(console: Console) -> None:
    await send_dead_letters(console.world, 2)
    response = await console.get("/dead-letters/live?seen=0")
    events = (await response.content.read()).decode()
    assert "event: parts" in events
    assert events.endswith("event: done\ndata: {}\n\n")


async def test_scan_is_repeated_on_request(console: Console) -> None:
    await _scanned(console)
    response = await console.post(
        "/dead-letters/scan", {"reason": "invalid"}, allow_redirects=False
    )
    assert response.headers["Location"] == "/dead-letters?reason=invalid"
    await console.context.scans.settle()
    assert console.context.scans.snapshot.number == 2


@pytest.mark.parametrize(("choose", "count"), [(0, 3), (2, 2)])
async def test_export_contains_the_selection_complete_and_is_logged(
    console: Console, choose: int, count: int
) -> None:
    await send_dead_letters(console.world, 3)
    await send_dead_letters(console.world, 1, reason="conflict")
    letters = await _scanned(console)
    chosen = [each.message_id for each in letters][:choose]
    fields = [("reason", "invalid"), *(("id", each) for each in chosen)]
    with capture_logs() as lines:
        response = await console.post("/dead-letters/export", fields)
        rows = [json.loads(line) for line in (await response.text()).splitlines()]
    assert len(rows) == count
    assert all(json.loads(row["body"])["ip"] == PRIVATE["ip"] for row in rows)
    assert re.search(r"dead-letters-\w+\.jsonl", response.headers["Content-Disposition"])
    [line] = [each for each in lines if each["event"] == "dead letters exported"]
    assert (line["operator"], line["count"]) == ("alice", count)
    assert ("--reason invalid" in line["filter"]) is not bool(choose and not line["filter"])


async def test_queue_that_may_not_be_read_says_why(console: Console) -> None:
    console.denied = AWSDeniedError("AccessDenied: sqs:ReceiveMessage")
    await _scanned(console)
    page = await console.text("/dead-letters")
    assert "The dead-letter queue cannot be scanned." in page
    assert "AccessDenied: sqs:ReceiveMessage" in page


async def _letter(console: Console, **changes: Any) -> str:
    await send_dead_letters(console.world, 1, **changes)
    [letter] = await _scanned(console)
    return f"/dead-letters/{letter.message_id}"


async def test_problem_is_marked_in_the_body(console: Console) -> None:
    path = await _letter(console, reason="unknown_policy")
    page = await console.text(path)
    bad = re.search(r'<div class="line bad">.*?</div>', page, re.DOTALL)
    assert bad is not None
    assert "&#34;version&#34;: &#34;2026-01&#34;" in bad[0]
    assert "detail 0" in bad[0]


async def test_personal_fields_are_masked_until_requested_and_each_request_is_logged(
    console: Console,
) -> None:
    path = await _letter(console)
    page = await console.text(path)
    assert page.count(MASK) >= 3
    assert [each for each in PRIVATE.values() if each in unescape(page)] == []
    with capture_logs() as lines:
        response = await console.post(path, {"field": "ip", "shown": ""})
        disclosed = unescape(await response.text())
    assert PRIVATE["ip"] in disclosed
    assert PRIVATE["session_id"] not in disclosed
    [line] = [each for each in lines if each["event"] == "field disclosed"]
    assert (line["operator"], line["field"]) == ("alice", "ip")
    assert PRIVATE["ip"] not in str(lines)
    with capture_logs() as lines:
        response = await console.post(path, {"field": "session_id", "shown": "ip"})
        both = unescape(await response.text())
    assert [each["field"] for each in lines if each["event"] == "field disclosed"] == [
        "session_id",
        "ip",
    ]
    assert PRIVATE["ip"] in both
    assert PRIVATE["session_id"] in both


async def test_page_alone_discloses_nothing(console: Console) -> None:
    path = await _letter(console)
    page = unescape(await console.text(f"{path}?field=ip&shown=ip"))
    assert PRIVATE["ip"] not in page


async def test_outcome_is_predicted_without_and_with_edits(console: Console) -> None:
    await console.context.repository.publish_policy(policy("2026-01"))
    path = await _letter(console, body=body(1, method=7))
    assert "method: must be a string" in await console.text(path)
    response = await console.get(
        f"{path}?set.method=clickwrap&set.user_id=&set=", allow_redirects=False
    )
    assert response.headers["Location"] == f"{path}?set=method%3Dclickwrap"
    page = await console.text(response.headers["Location"])
    assert "would succeed" in page
    assert 'value="clickwrap"' in page
    assert "read-only" in page
    assert "/replay/start" not in page


async def test_body_that_cannot_be_edited_says_what_to_do(console: Console) -> None:
    path = await _letter(console, body='{"user_id": ', reason="malformed")
    assert "use replay --from" in await console.text(path)


async def test_policy_text_stands_beside_the_body(console: Console) -> None:
    await console.context.repository.publish_policy(
        policy("2026-01", content_sha256=_TEXT.sha256), _TEXT
    )
    page = await console.text(await _letter(console))
    assert "Be kind." in page
    assert _TEXT.sha256[:12] in page


async def test_unpublished_version_lists_the_published_ones(console: Console) -> None:
    await console.context.repository.publish_policy(policy("2025-12"))
    page = await console.text(await _letter(console))
    assert "is not published." in page
    assert 'href="/policies/version?policy=acceptable-use&amp;version=2025-12"' in page


async def test_history_and_attributes_are_shown(console: Console) -> None:
    replays = {
        "count": 2,
        "at": "2026-11-20T10:00:00Z",
        "edits": [{"at": "2026-11-20T10:00:00Z", "by": "eve", "changed": ["method"]}],
    }
    attributes = {
        "aup.replay": {"DataType": "String", "StringValue": json.dumps(replays)},
        "source": {"DataType": "String", "StringValue": "ios"},
    }
    page = await console.text(await _letter(console, attributes=attributes))
    assert "2 times, last" in page
    assert "by eve: method" in page
    assert '<code>source</code> <span class="note">String</span><br><code class="wrap">ios' in page


async def test_absent_dead_letter_says_so(console: Console) -> None:
    await _scanned(console)
    page = await console.text("/dead-letters/absent", 404)
    assert "dead letter absent not found" in page


async def test_back_leads_to_the_list_that_the_dead_letter_came_from(console: Console) -> None:
    path = await _letter(console)
    page = await console.text(f"{path}?from=reason%3Dinvalid%26since%3D3d%26evil%3D1")
    assert 'href="/dead-letters?reason=invalid&amp;since=3d"' in page


async def test_reading_hides_nothing(console: Console) -> None:
    path = await _letter(console)
    await console.text(path)
    assert await visible_and_in_flight(console.world.dead_letters) == (1, 0)


async def test_console_that_has_ended_starts_no_scan(console: Console) -> None:
    await console.context.aclose()
    before = console.context.scans.snapshot.number
    console.context.scans.look(again=True)
    await console.context.scans.settle()
    assert console.context.scans.snapshot.number == before
    assert console.context.closing.is_set()
