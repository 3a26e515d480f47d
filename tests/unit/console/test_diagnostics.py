"""The checks of `doctor` run once for all viewers, and again on request."""

from __future__ import annotations

import asyncio
import html
import re

import pytest
from structlog.testing import capture_logs

from tests.unit.console.opened import CHECKS, fast_world, opened_console
from tests.unit.fakes import clock
from worker.console.check_runs import CheckRuns
from worker.console.pages import diagnostics
from worker.errors import SettingsError
from worker.operations.doctor.checks import Groups


def _plain(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_results_are_shown_with_remedies() -> None:
    async with opened_console(await fast_world()) as console:
        page = await console.text("/diagnostics")
    text = _plain(page)
    assert "4 checks, 1 pass, 1 warn, 1 fail, 1 unknown; run 0 s ago" in text
    assert "1 check failed: the worker cannot work, or messages get lost." in text
    assert "Account 1 check, all pass" in text
    assert "✕ fail dead-letter queue does not exist run aup-worker init" in text
    assert re.findall(r'<details class="group"( open)?>', page) == ["", " open"]


async def test_results_are_kept_until_they_are_requested_again() -> None:
    async with opened_console(await fast_world()) as console:
        for _ in range(2):
            await console.text("/diagnostics")
        assert console.check_runs == 1
        with capture_logs() as lines:
            response = await console.post("/diagnostics", allow_redirects=False)
        assert (response.status, response.headers["Location"]) == (303, "/diagnostics")
        assert console.check_runs == 2
    assert [each["event"] for each in lines] == ["checks run"]


async def test_viewers_share_one_run_and_may_leave() -> None:
    started, released = asyncio.Event(), asyncio.Event()
    count = 0

    async def run_checks() -> Groups:
        nonlocal count
        count += 1
        started.set()
        await released.wait()
        return CHECKS

    runs = CheckRuns(run_checks, clock)
    leaving, staying = (asyncio.create_task(runs.run()) for _ in range(2))
    await started.wait()
    leaving.cancel()
    released.set()
    found = await staying
    assert found is not None
    assert found.groups is CHECKS
    assert (count, runs.latest) == (1, found)


class _Slow:
    """Checks that wait until they are released."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __call__(self) -> Groups:
        await self.released.wait()
        return CHECKS


async def test_slow_checks_do_not_delay_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(diagnostics, "_ALIVE_SECONDS", 0.01)
    slow = _Slow()
    async with opened_console(await fast_world()) as console:
        console.context.checks = CheckRuns(slow, clock)
        page = await console.text("/diagnostics")
        assert "The checks run; the page shows their results at the end." in page
        assert 'data-live="/diagnostics/live"' in page
        response = await console.get("/diagnostics/live")
        await response.content.readuntil(b"event: parts\n")
        slow.released.set()
        assert (await response.content.read()).endswith(b"event: done\ndata: {}\n\n")
        page = await console.text("/diagnostics")
    assert "4 checks" in page
    assert "data-live" not in page


async def test_invalid_region_is_explained_until_the_checks_run_again() -> None:
    errors = [SettingsError(["AWS_REGION: missing"])]

    async def run_checks() -> Groups:
        if errors:
            raise errors.pop()
        return CHECKS

    async with opened_console(await fast_world()) as console:
        console.context.checks = CheckRuns(run_checks, clock)
        for _ in range(2):
            page = await console.text("/diagnostics")
            assert "The checks could not be run: AWS_REGION: missing" in page
        await console.post("/diagnostics")
        assert "AWS_REGION" not in await console.text("/diagnostics")
