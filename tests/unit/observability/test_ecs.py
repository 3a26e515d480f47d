"""State how ECS is asked: who the task is, and to leave it alone while it holds messages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.private import IP, SESSION_ID
from tests.unit.monitoring import Watched, view_of
from worker.domain.outcome import RECORDED
from worker.observability.ecs import ScaleInProtection, identity

TASK = {
    "Cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/prod",
    "TaskARN": "arn:aws:ecs:eu-west-1:111122223333:task/prod/158d1c8083dd49d6b527399fd6414f5c",
    "Family": "aup-worker",
    "Revision": "26",
    "AvailabilityZone": "eu-west-1b",
    "Containers": [{"Name": "worker"}],
}


class Agent:
    """Answer as the ECS agent does."""

    def __init__(self) -> None:
        self.url = ""
        self.states: list[Any] = []
        self.asked = asyncio.Event()
        self.protection: dict[str, Any] = {"protection": {"ProtectionEnabled": True}}
        self.status = 200
        self.task: Any = TASK
        self.delay_seconds = 0.0

    async def answer_task(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self.delay_seconds)
        if isinstance(self.task, str):
            return web.Response(text=self.task)
        return web.json_response(self.task)

    async def answer_state(self, request: web.Request) -> web.Response:
        self.states.append(await request.json())
        self.asked.set()
        return web.json_response(self.protection, status=self.status)


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    fake = Agent()
    app = web.Application()
    app.router.add_get("/v4/id/task", fake.answer_task)
    app.router.add_put("/task-protection/v1/state", fake.answer_state)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


async def test_the_task_is_named_for_the_log(agent: Agent) -> None:
    assert await identity(f"{agent.url}/v4/id") == {
        "task_arn": TASK["TaskARN"],
        "task_id": "158d1c8083dd49d6b527399fd6414f5c",
        "task_family": "aup-worker",
        "task_revision": "26",
        "cluster": TASK["Cluster"],
        "availability_zone": "eu-west-1b",
    }
    agent.task = {"Family": "aup-worker", "Cluster": {"odd": 1}, "Revision": None}
    assert await identity(f"{agent.url}/v4/id") == {"task_family": "aup-worker"}


@pytest.mark.parametrize("task", ["no JSON", ["a list"], "slow", "absent"])
async def test_an_agent_that_names_no_task_costs_a_second_at_most(agent: Agent, task: Any) -> None:
    agent.task = task
    agent.delay_seconds = 30.0 if task == "slow" else 0.0
    began = time.monotonic()
    assert await identity(f"{agent.url}/{'none' if task == 'absent' else 'v4/id'}") == {}
    assert time.monotonic() - began < 3


class _Trial:
    def __init__(self, agent_uri: str = "http://127.0.0.1:9") -> None:
        self.watched = Watched()
        self.accounting = self.watched.metrics.accounting
        self.now = 1000.0
        self.protection = ScaleInProtection(
            agent_uri, view_of(self.watched, ecs_protection_minutes=10), lambda: self.now
        )

    def after(self, seconds: float, *, failure: str | None = None) -> bool | None:
        """Let time pass; say what is asked for, and have that answered."""
        self.now += seconds
        wanted = self.protection.wanted()
        if wanted is not None:
            self.protection.learn(wanted=wanted, failure=failure)
        return wanted


async def test_it_is_asked_for_with_the_first_message_renewed_at_the_half_and_released() -> None:
    trial = _Trial()
    assert trial.after(1) is None
    trial.accounting.open()
    assert trial.after(1) is True
    assert [trial.after(1) for _ in range(298)] == [None] * 298
    assert trial.after(2) is True, "half of ten minutes"
    trial.accounting.close(RECORDED)
    assert trial.after(58) is None
    assert trial.after(3) is False
    assert trial.after(1000) is None


async def test_messages_that_came_and_went_between_two_looks_count_as_held() -> None:
    trial = _Trial()
    trial.accounting.open()
    trial.accounting.close(RECORDED)
    assert trial.after(1) is True


async def test_however_messages_come_there_are_few_calls() -> None:
    trial = _Trial()
    asked = 0
    for second in range(3600):
        trial.accounting.open()
        if second % 61:
            trial.accounting.close(RECORDED)
        asked += trial.after(1) is not None
    assert asked <= 13


async def test_a_failure_is_told_once_and_tried_again_later() -> None:
    trial = _Trial()
    trial.accounting.open()
    with capture_logs() as logs:
        assert trial.after(1, failure="HTTP 500") is True
        assert trial.after(29) is None
        assert trial.after(2, failure="HTTP 500") is True
        assert trial.after(31) is True
        assert trial.after(1) is None
    assert [each["event"] for each in logs] == ["ECS does not change the protection"]


@pytest.mark.parametrize(
    ("status", "answer", "told"),
    [
        (200, {"protection": {"ProtectionEnabled": True}}, []),
        (200, {"failure": {"Reason": "DEPLOYMENT_BLOCKED"}}, ["DEPLOYMENT_BLOCKED"]),
        (400, {"error": {"Code": "AccessDeniedException"}}, ["AccessDeniedException"]),
        (500, {}, ["HTTP 500"]),
        (200, {"failure": IP}, ["unreadable: 12 bytes, SHA-256"]),
        (200, {"failure": [SESSION_ID]}, ["unreadable"]),
    ],
)
async def test_the_agent_is_asked_in_its_own_words(
    agent: Agent, status: int, answer: dict[str, Any], told: list[str]
) -> None:
    agent.status, agent.protection = status, answer
    trial = _Trial(agent.url)
    trial.accounting.open()
    with capture_logs() as logs:
        asking = asyncio.create_task(trial.protection.run())
        await asyncio.wait_for(agent.asked.wait(), 10)
        await asyncio.sleep(0.1)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])
    assert agent.states == [{"ProtectionEnabled": True, "ExpiresInMinutes": 10}]
    assert len(logs) == len(told)
    assert all(word in line["error"] for word, line in zip(told, logs, strict=True))


async def test_an_agent_that_is_not_there_ends_nothing() -> None:
    trial = _Trial()
    trial.accounting.open()
    with capture_logs() as logs:
        asking = asyncio.create_task(trial.protection.run())
        await _until(lambda: bool(logs))
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0.01)
