"""A console in this process on a simulated AWS, and a browser-like client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from tests.simulation.faults import Durations
from tests.unit.fakes import World, clock, open_world, settings
from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue
from worker.console.check_runs import CheckRuns
from worker.console.context import ConsoleContext, ConsoleOptions
from worker.console.page import Page
from worker.console.registry import PAGES
from worker.console.security import Access
from worker.console.server import application
from worker.console.status_feed import StatusFeed
from worker.errors import AWSError
from worker.operations.doctor.checks import Groups
from worker.operations.doctor.result import failed, passed, unknown, warned

CHECKS: Groups = {
    "account": [passed("identity", "arn:aws:iam::123456789012:role/auditor")],
    "queues": [
        warned("queue: retention", "4 days", "set it to 14 days"),
        failed("dead-letter queue", "does not exist", "run aup-worker init"),
        unknown("clock", "no response had a date", "check the endpoint"),
    ],
}


async def fast_world() -> World:
    """Return a simulated AWS that responds at once, because a browser's time is not virtual."""
    return await open_world(durations=Durations(min_latency_seconds=0, max_latency_seconds=0))


class NoAges:
    """A CloudWatch without data."""

    async def oldest_ages(self, names: Sequence[str], _: datetime) -> list[float | None]:
        return [None for _ in names]


@dataclass(slots=True)
class Console:
    """A running console.

    Attributes:
        denied: Error of every attempt to open the queues.
        check_runs: Number of runs of the checks.
    """

    client: TestClient[Any, Any]
    context: ConsoleContext
    access: Access
    world: World
    denied: AWSError | None = None
    check_runs: int = 0

    @property
    def origin(self) -> str:
        """Origin of the pages."""
        return str(self.client.make_url("/")).rstrip("/")

    async def get(self, path: str, **options: Any) -> ClientResponse:
        return await self.client.get(path, **options)

    async def text(self, path: str, status: int = 200) -> str:
        """Return a page, which must have this status."""
        response = await self.get(path)
        text = await response.text()
        assert response.status == status, text
        return text

    async def post(
        self, path: str, fields: Mapping[str, str] | Sequence[tuple[str, str]] = (), **options: Any
    ) -> ClientResponse:
        """Send a form as a page of the console does."""
        headers = {"Origin": self.origin, **options.pop("headers", {})}
        content = options.pop("content", fields or {"": ""})
        return await self.client.post(path, data=content, headers=headers, **options)


@asynccontextmanager
async def opened_console(
    world: World,
    *,
    pages: Sequence[Page] = PAGES,
    signed_in: bool = True,
    workers: tuple[str, ...] = (),
    allow_replay: bool = False,
    access: Access | None = None,
) -> AsyncIterator[Console]:
    """Open a console; close it and its scans at the end of the block."""
    access = access or Access("127.0.0.1")

    async def queues() -> tuple[Queue, Queue]:
        if console.denied is not None:
            raise console.denied
        return world.source, world.dead_letters

    async def run_checks() -> Groups:
        console.check_runs += 1
        return CHECKS

    async with world.repository() as repository:
        context = ConsoleContext(
            settings(),
            ConsoleOptions("alice", allow_replay, workers),
            repository,
            queues,
            StatusFeed(queues, cast("CloudWatch", NoAges()), workers, now=clock),
            now=clock,
        )
        context.checks = CheckRuns(run_checks, clock)
        async with TestClient(TestServer(application(context, access, pages))) as client:
            console = Console(client, context, access, world)
            if signed_in:
                await client.get(f"/?token={access.token}", allow_redirects=False)
            try:
                yield console
            finally:
                await context.aclose()
                await context.status.aclose()
