"""Identity of an ECS task and its scale-in protection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from tests.private import IP, SESSION_ID
from tests.unit.monitoring import FakePipeline, status_of
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
    """An ECS agent."""

    def __init__(self) -> None:
        self.url = ""
        self.states: list[Any] = []
        self.called = asyncio.Event()
        self.protection: dict[str, Any] = {"protection": {"ProtectionEnabled": True}}
        self.status = 200
        self.task: Any = TASK
        self.delay_seconds = 0.0

    async def get_task(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self.delay_seconds)
        if isinstance(self.task, str):
            return web.Response(text=self.task)
        return web.json_response(self.task)

    async def put_state(self, request: web.Request) -> web.Response:
        self.states.append(await request.json())
        self.called.set()
        return web.json_response(self.protection, status=self.status)


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    fake = Agent()
    app = web.Application()
    app.router.add_get("/v4/id/task", fake.get_task)
    app.router.add_put("/task-protection/v1/state", fake.put_state)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield fake
    await runner.cleanup()


async def test_identity_has_the_fields_of_the_task(agent: Agent) -> None:
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
async def test_identity_is_empty_in_time_without_a_valid_response(
    agent: Agent, task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.observability.ecs._IDENTITY_SECONDS", 0.2)
    agent.task = task
    agent.delay_seconds = 30.0 if task == "slow" else 0.0
    began = time.monotonic()
    assert await identity(f"{agent.url}/{'none' if task == 'absent' else 'v4/id'}") == {}
    assert time.monotonic() - began < 3


class _Task:
    """Scale-in protection of a task with its own clock."""

    def __init__(self, agent_uri: str = "http://127.0.0.1:9") -> None:
        self.pipeline = FakePipeline()
        self.accounting = self.pipeline.metrics.accounting
        self.now = 1000.0
        self.protection = ScaleInProtection(
            agent_uri, status_of(self.pipeline, ecs_protection_minutes=10), lambda: self.now
        )

    def after(self, seconds: float, *, failure: str | None = None) -> bool | None:
        """Advance the clock; return what is requested, and apply the result of the request."""
        self.now += seconds
        wanted = self.protection.wanted()
        if wanted is not None:
            self.protection.apply(wanted=wanted, failure=failure)
        return wanted


async def test_protection_is_requested_renewed_after_half_its_time_and_released() -> None:
    task = _Task()
    assert task.after(1) is None
    task.accounting.open()
    assert task.after(1) is True
    assert [task.after(1) for _ in range(298)] == [None] * 298
    assert task.after(2) is True, "half of ten minutes"
    task.accounting.close(RECORDED)
    assert task.after(58) is None
    assert task.after(3) is False
    assert task.after(1000) is None


async def test_protection_pauses_for_a_minute_in_every_hour_under_steady_traffic() -> None:
    task = _Task()
    task.accounting.open()
    wanted = {second: task.after(1) for second in range(2 * 3600)}
    released = [second for second, each in wanted.items() if each is False]
    requested = [second for second, each in wanted.items() if each is True]
    assert released == [3600]
    assert next(second for second in requested if second > 3600) == 3660
    assert len(requested) == 24


async def test_messages_settled_between_two_checks_count_as_held() -> None:
    task = _Task()
    task.accounting.open()
    task.accounting.close(RECORDED)
    assert task.after(1) is True


async def test_number_of_calls_does_not_depend_on_messages() -> None:
    task = _Task()
    calls = 0
    for second in range(3600):
        task.accounting.open()
        if second % 61:
            task.accounting.close(RECORDED)
        calls += task.after(1) is not None
    assert calls <= 13


async def test_failure_is_logged_once_and_retried_later() -> None:
    task = _Task()
    task.accounting.open()
    with capture_logs() as logs:
        assert task.after(1, failure="HTTP 500") is True
        assert task.after(29) is None
        assert task.after(2, failure="HTTP 500") is True
        assert task.after(31) is True
        assert task.after(1) is None
    assert [each["event"] for each in logs] == ["scale-in protection not changed"]


@pytest.mark.parametrize(
    ("status", "response", "errors"),
    [
        (200, {"protection": {"ProtectionEnabled": True}}, []),
        (200, {"failure": {"Reason": "DEPLOYMENT_BLOCKED"}}, ["DEPLOYMENT_BLOCKED"]),
        (400, {"error": {"Code": "AccessDeniedException"}}, ["AccessDeniedException"]),
        (500, {}, ["HTTP 500"]),
        (200, {"failure": IP}, ["unreadable: 12 bytes, SHA-256"]),
        (200, {"failure": [SESSION_ID]}, ["unreadable"]),
    ],
)
async def test_request_and_errors_of_the_agent(
    agent: Agent, status: int, response: dict[str, Any], errors: list[str]
) -> None:
    agent.status, agent.protection = status, response
    task = _Task(agent.url)
    task.accounting.open()
    with capture_logs() as logs:
        running = asyncio.create_task(task.protection.run())
        await asyncio.wait_for(agent.called.wait(), 10)
        await _until(lambda: len(logs) >= len(errors))
        await asyncio.sleep(0.02)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
    assert agent.states == [{"ProtectionEnabled": True, "ExpiresInMinutes": 10}]
    assert len(logs) == len(errors)
    assert all(text in line["error"] for text, line in zip(errors, logs, strict=True))


async def test_unreachable_agent_does_not_end_the_task() -> None:
    task = _Task()
    task.accounting.open()
    with capture_logs() as logs:
        running = asyncio.create_task(task.protection.run())
        await _until(lambda: bool(logs))
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - logs have no event to wait for
            await asyncio.sleep(0.01)
