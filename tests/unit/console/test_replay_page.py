"""Page Replay: nothing is sent without a dry run, --allow-replay and a form of the same page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, policy
from tests.unit.operations.dead_letters.dead_letter_queue import send_dead_letters
from worker.aws.sqs import Queue
from worker.console.replay_run import State
from worker.errors import AWSDeniedError, AWSError
from worker.operations.dead_letters import scan


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(scan, "_POLL_SECONDS", 0)  # the time is real


async def _filled(world: World) -> None:
    await send_dead_letters(world, 3)
    await send_dead_letters(world, 2, reason="malformed", body="{")


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    """Return a console that may replay, with five dead letters of which three would succeed."""
    world = await fast_world()
    await _filled(world)
    async with opened_console(world, allow_replay=True) as opened:
        await opened.context.repository.publish_policy(policy())
        yield opened


def _key(page: str) -> str:
    found = re.search(r'name="dry_run" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


async def _ended(console: Console) -> None:
    run = console.context.replays.run
    assert run is not None
    while run.state is State.RUNNING:  # noqa: ASYNC110 - the run has no event
        await asyncio.sleep(0.01)


async def test_dry_run_names_outcomes_and_the_button_names_the_count(console: Console) -> None:
    page = await console.text("/replay?all=1")
    assert "5 selected, 3 would succeed; nothing was sent" in page
    assert "Replay 3 of 5" in page
    assert "2 dead letters would not be sent" in page
    assert console.world.bodies(SOURCE) == []


async def test_chosen_rows_win_over_the_filter_and_the_address_is_the_shortest(
    console: Console,
) -> None:
    await console.text("/replay?all=1")
    chosen = list(console.context.scans.snapshot.dead_letters)[:2]
    query = f"reason=invalid&id={chosen[0]}&id={chosen[1]}"
    response = await console.get(f"/replay?{query}", allow_redirects=False)
    assert response.headers["Location"] == f"/replay?id={chosen[0]}&id={chosen[1]}"
    assert "2 selected" in await console.text(response.headers["Location"])


async def test_replay_sends_what_the_dry_run_found_and_is_logged(console: Console) -> None:
    key = _key(await console.text("/replay?reason=invalid&set=method%3Dsignature"))
    with capture_logs() as lines:
        response = await console.post("/replay/start", {"dry_run": key}, allow_redirects=False)
        await _ended(console)
    assert (response.status, response.headers["Location"]) == (303, "/replay")
    sent = console.world.bodies(SOURCE)
    assert [json.loads(each)["method"] for each in sent] == ["signature"] * 3
    assert len(console.world.bodies(DEAD_LETTERS)) == 2
    started, finished = (each for each in lines if each["event"].startswith("replay "))
    assert started["event"] == "replay started"
    assert (started["operator"], started["filter"], started["count"], started["edited"]) == (
        "alice", "--reason invalid", 3, ["method"]
    )  # fmt: skip
    assert (finished["event"], finished["replayed"]) == ("replay finished", 3)
    page = await console.text("/replay")
    assert re.search(r"replayed 3 of 3 in [\d.]+ s", page)


@pytest.mark.parametrize("key", ["", "guessed"])
async def test_nothing_is_sent_without_a_dry_run(console: Console, key: str) -> None:
    response = await console.post("/replay/start", {"dry_run": key})
    assert response.status == 400
    assert "nothing was sent" in await response.text()
    assert console.world.bodies(SOURCE) == []


async def test_one_dry_run_is_one_replay(console: Console) -> None:
    key = _key(await console.text("/replay?all=1"))
    await console.post("/replay/start", {"dry_run": key}, allow_redirects=False)
    await _ended(console)
    response = await console.post("/replay/start", {"dry_run": key})
    assert response.status == 400
    assert len(console.world.bodies(SOURCE)) == 3


async def test_dry_run_without_a_message_to_send_has_no_button(console: Console) -> None:
    page = await console.text("/replay?reason=malformed")
    assert "Replay 0 of 2" in page
    assert "/replay/start" not in page


async def test_read_only_console_shows_the_command_and_sends_nothing() -> None:
    world = await fast_world()
    await _filled(world)
    async with opened_console(world) as console:
        page = await console.text("/replay?reason=invalid&rate=5&set=method%3Da+b")
        assert "aup-worker replay --reason invalid --set &#39;method=a b&#39; --rate 5" in page
        assert "/replay/start" not in page
        for path in ("/replay/start", "/replay/stop", "/replay/resume"):
            assert (await console.post(path)).status == 403
        assert world.bodies(SOURCE) == []


class _Denied(Queue):
    """A queue to which the role may not send."""

    async def send(self, *_: Any) -> list[AWSError | None]:
        raise AWSDeniedError("AccessDenied: sqs:SendMessage")


async def test_role_that_may_not_send_is_told_so_instead_of_a_button() -> None:
    world = await fast_world()
    await _filled(world)
    world.source = _Denied(world.source._client, world.source.url)
    async with opened_console(world, allow_replay=True) as console:
        await console.context.repository.publish_policy(policy())
        page = await console.text("/replay?all=1")
    assert "cannot replay." in page
    assert "AccessDenied: sqs:SendMessage" in page
    assert "/replay/start" not in page


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("rate=0", "rate 0: expected a number from 0.1 to 10,000"),
        ("rate=nan", "rate nan: expected a number"),
        ("max_replays=x", "max_replays x: expected a number from 1 to 1,000"),
        ("set=version", "--set version: must be field=value"),
        ("since=x", "since x: expected a time"),
    ],
)
async def test_invalid_field_is_explained(console: Console, query: str, problem: str) -> None:
    assert problem in unescape(await console.text(f"/replay?all=1&{query}", 400))


async def test_stopped_replay_is_offered_and_resumed(console: Console) -> None:
    await send_dead_letters(console.world, 30)
    key = _key(await console.text("/replay?reason=invalid&rate=20"))
    await console.post("/replay/start", {"dry_run": key}, allow_redirects=False)
    page = await console.text("/replay")
    assert 'action="/replay/stop"' in page
    assert 'data-live="/replay/live"' in page
    response = await console.get("/replay/live")
    part = await response.content.readuntil(b"\n\n")
    part = await response.content.readuntil(b"\n\n")
    response.close()
    assert b"of 33" in part
    await console.post("/replay/stop", allow_redirects=False)
    page = await console.text("/replay")
    assert 'action="/replay/resume"' in page
    assert "stopped" in page
    before = len(console.world.bodies(SOURCE))
    assert before < 33
    await console.post("/replay/resume", allow_redirects=False)
    await _ended(console)
    assert len(console.world.bodies(SOURCE)) == 33
    assert "/replay/resume" not in await console.text("/replay")


async def test_end_of_a_replay_loads_the_page_again(console: Console) -> None:
    key = _key(await console.text("/replay?all=1"))
    await console.post("/replay/start", {"dry_run": key}, allow_redirects=False)
    response = await console.get("/replay/live")
    assert (await response.text()).endswith("event: done\ndata: {}\n\n")


async def test_page_without_a_request_says_where_to_start(console: Console) -> None:
    assert "No replay" in await console.text("/replay")
