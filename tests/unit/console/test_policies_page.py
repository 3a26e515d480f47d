"""Policies are shown with texts and differences; a scan starts only after its cost was shown."""

from __future__ import annotations

import asyncio
import hashlib
import html
import json
import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.faults import Denial
from tests.simulation.virtual_clock import START
from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import policy
from worker.console.pages import policies
from worker.domain.policy import PolicyText
from worker.domain.text_content import TextContent
from worker.errors import AWSDeniedError, UsageError
from worker.repository import ScanPage, TableSize

FIRST = "Be kind.\nDo <b>not</b> send spam.\n"
SECOND = "Be kind.\nSend no spam.\n"
SPANISH = "Sea amable.\n"
VERSION = "/policies/version?policy=acceptable-use&version=2026-02"
COVERAGE = {"policy": "acceptable-use", "version": "2026-01"}


def _text(text: str) -> TextContent:
    return TextContent(text.encode(), "text/plain")


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    async with opened_console(await fast_world()) as opened:
        repository = opened.context.repository
        for version, text, days in (("2026-01", FIRST, 9), ("2026-02", SECOND, 3)):
            at = START - timedelta(days=days)
            published = policy(
                version, content_sha256=_text(text).sha256, published_at=at, effective_at=at
            )
            await repository.publish_policy(published, _text(text))
        spanish = PolicyText(_text(SPANISH).sha256, "es")
        await repository.publish_text("acceptable-use", "2026-02", spanish, _text(SPANISH))
        yield opened


async def test_no_policies_are_explained() -> None:
    async with opened_console(await fast_world()) as console:
        assert "No policy is published" in await console.text("/policies")


async def test_versions_are_listed_with_state_and_languages(console: Console) -> None:
    page = await console.text("/policies")
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</tr>", page, re.DOTALL)
    texts = [re.sub(r"<[^>]+>|\s+", " ", each) for each in rows]
    assert [each.split()[0] for each in texts] == ["2026-02", "2026-01"]
    assert "in force" in texts[0]
    assert "default, es" in texts[0]
    assert "superseded" in texts[1]


async def test_role_that_may_not_list_policies_can_state_one(console: Console) -> None:
    denial = Denial(code="AccessDeniedException", operations=frozenset({"Scan"}))
    console.world.faults.deny("dynamodb", denial)
    page = await console.text("/policies")
    assert "The role of this console may not read all policies." in page
    assert '<input id="policy" name="policy"' in page
    page = await console.text("/policies?policy=acceptable-use")
    assert ">2026-02</bdi>" in page
    assert "No version of other is published" in await console.text("/policies?policy=other")
    assert 'id="policy-problem"' in await console.text("/policies?policy=%07")


async def test_role_that_may_only_get_items_sees_a_version(console: Console) -> None:
    denial = Denial(code="AccessDeniedException", operations=frozenset({"Scan", "Query"}))
    console.world.faults.deny("dynamodb", denial)
    page = await console.text("/policies?policy=acceptable-use")
    assert "The role of this console may not read acceptable-use." in page
    page = await console.text(VERSION)
    assert SECOND in page
    assert "published</span>" in page


async def test_text_is_shown_by_language(console: Console) -> None:
    assert SECOND in await console.text(VERSION)
    page = await console.text(f"{VERSION}&locale=es")
    assert SPANISH in page
    assert f'title="{hashlib.sha256(SPANISH.encode()).hexdigest()}"' in page


async def test_difference_of_two_versions_is_marked(console: Console) -> None:
    page = await console.text(f"{VERSION}&compare=2026-01")
    found = re.findall(
        r'<span class="(\w*)">([^<]*)</span>', page.partition("<pre")[2].partition("</pre>")[0]
    )
    assert [(kind, html.unescape(line).strip("\n")) for kind, line in found] == [
        ("place", "@@ -1,2 +1,2 @@"),
        ("", " Be kind."),
        ("removed", "-Do <b>not</b> send spam."),
        ("added", "+Send no spam."),
    ]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("compare=2026-02", "The texts are equal."),
        ("compare=2025-01", "acceptable-use 2025-01 is not published"),
        ("compare=2026-01&locale=es", "has no text in es, only the default text"),
    ],
)
async def test_missing_difference_is_explained(console: Console, query: str, text: str) -> None:
    assert text in await console.text(f"{VERSION}&{query}")


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/policies/version?policy=acceptable-use&version=1", 404, "is not published"),
        ("/policies/version?policy=acceptable-use", 400, "policy and version: state both"),
        ("/policies/version?policy=%07&version=1", 400, "policy: "),
        (f"{VERSION}&locale=fr", 409, "has no text in fr"),
        ("/policies/coverage?policy=acceptable-use&version=1", 404, "is not published"),
    ],
)
async def test_wrong_address_is_explained(
    console: Console, path: str, status: int, text: str
) -> None:
    assert text in await console.text(path, status)


async def test_cost_is_shown_before_anything_is_read(console: Console) -> None:
    page = await console.text("/policies/coverage?policy=acceptable-use&version=2026-01")
    text = re.sub(r"<[^>]+>|\s+", " ", page)
    assert "less than $0.01" in text
    assert "at 200 read units per second" in text
    assert console.context.coverage.latest("acceptable-use", "2026-01") is None


async def _finished(console: Console) -> None:
    while console.context.coverage.running is not None:  # noqa: ASYNC110 - a scan in this process
        await asyncio.sleep(0.01)


class _Slow:
    """Pages of a scan that wait until they are released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, *_: object, **__: object) -> ScanPage:
        self.started.set()
        await self.released.wait()
        return ScanPage(["2026-11-22T10:00:00Z"], 1, 0.5, None)


@pytest.fixture
def slow(console: Console, monkeypatch: pytest.MonkeyPatch) -> _Slow:
    pages = _Slow()
    monkeypatch.setattr(console.context.repository, "scan_acceptances", pages)
    return pages


async def test_scan_counts_by_day_and_is_logged(console: Console, slow: _Slow) -> None:
    slow.released.set()
    with capture_logs() as lines:
        response = await console.post("/policies/coverage", COVERAGE, allow_redirects=False)
    assert response.status == 303
    address = response.headers["Location"]
    assert address == "/policies/version?policy=acceptable-use&version=2026-01#coverage"
    assert [(each["event"], each["policy"], each["version"]) for each in lines] == [
        ("coverage scan started", "acceptable-use", "2026-01")
    ]
    await _finished(console)
    page = await console.text(address.partition("#")[0])
    assert "<b>4 users</b> accepted acceptable-use 2026-01" in page  # one for each segment
    assert "2026-11-22: accepted 4" in page


@pytest.mark.parametrize(
    ("last", "labels", "months"),
    [
        (date(2026, 1, 15), ["2026-01-15"], False),
        (date(2026, 1, 17), ["2026-01-15", "2026-01-16", "2026-01-17"], False),
        (date(2026, 4, 17), ["2026-01", "2026-02", "2026-03", "2026-04"], True),
    ],
)
def test_chart_is_to_scale(last: date, labels: list[str], months: bool) -> None:
    found = policies._bars({date(2026, 1, 15): 2, last: 2})
    bars = found["bars"]
    assert (bars.labels, found["months"], found["earlier"]) == (labels, months, 0)
    assert [each for each in bars.series["accepted"] if each] == [2] * min(2, len(labels))


def test_absurd_day_does_not_stretch_the_chart() -> None:
    found = policies._bars({date(1, 1, 1): 3, date(2026, 1, 15): 2})
    assert found["earlier"] == 3
    assert len(found["bars"].labels) == 121
    assert sum(found["bars"].series["accepted"]) == 2


async def test_only_one_scan_runs(console: Console, slow: _Slow) -> None:
    console.context.coverage.start("acceptable-use", "2026-01", TableSize(10, 10_240))
    with pytest.raises(UsageError, match="a scan for acceptable-use 2026-01 runs already"):
        console.context.coverage.start("acceptable-use", "2026-02", TableSize(10, 10_240))
    page = await console.text("/policies/coverage?policy=acceptable-use&version=2026-02")
    assert 'disabled data-disabled="true"' in page
    slow.released.set()
    await _finished(console)
    assert "Shows the cost of the scan first." in await console.text(VERSION)


async def test_progress_is_streamed_until_the_page_is_reloaded(
    console: Console, slow: _Slow
) -> None:
    await console.post("/policies/coverage", COVERAGE, allow_redirects=False)
    await slow.started.wait()
    page = await console.text("/policies/version?policy=acceptable-use&version=2026-01")
    assert 'data-live="/policies/live?policy=acceptable-use&amp;version=2026-01"' in page
    response = await console.get("/policies/live", params=COVERAGE)
    await response.content.readuntil(b"event: parts\n")
    data = await response.content.readuntil(b"\n\n")
    assert "<progress" in json.loads(data.removeprefix(b"data: "))["progress"]
    slow.released.set()
    assert (await response.content.read()).endswith(b"event: done\ndata: {}\n\n")


async def test_cancelled_scan_is_no_result(console: Console, slow: _Slow) -> None:
    await console.post("/policies/coverage", COVERAGE, allow_redirects=False)
    await slow.started.wait()
    with capture_logs() as lines:
        await console.post("/policies/coverage/cancel", COVERAGE, allow_redirects=False)
    assert [each["event"] for each in lines] == ["coverage scan cancelled"]
    page = await console.text("/policies/version?policy=acceptable-use&version=2026-01")
    assert "The scan ended early: cancelled before the end" in page
    assert " users</b> accepted" not in page


async def test_failed_scan_is_explained(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(*_: object, **__: object) -> Any:
        raise AWSDeniedError("AccessDeniedException: dynamodb:Scan")

    monkeypatch.setattr(console.context.repository, "scan_acceptances", denied)
    await console.post("/policies/coverage", COVERAGE, allow_redirects=False)
    await _finished(console)
    page = await console.text("/policies/version?policy=acceptable-use&version=2026-01")
    assert "The scan ended early: AccessDeniedException: dynamodb:Scan" in page
