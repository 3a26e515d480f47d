"""What the pages of the console work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from worker.aws.client import new_session
from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue, open_queues
from worker.aws.sqs_responses import QueueState
from worker.console.check_runs import CheckRuns
from worker.console.coverage_scans import CoverageScans
from worker.console.replays import Replays
from worker.console.scans import DeadLetterScans
from worker.console.status_feed import StatusFeed
from worker.console.timeline import Timeline
from worker.errors import AWSError
from worker.operations.doctor import account
from worker.operations.doctor.checks import run_checks
from worker.operations.doctor.result import CheckResult
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

# The source queue and the dead-letter queue; raises AWSError if they cannot be opened.
GetQueues = Callable[[], Awaitable[tuple[Queue, Queue]]]


@dataclass(frozen=True, slots=True)
class ConsoleOptions:
    """Options of the console.

    Attributes:
        operator: Name of the person in logs and in the history of edited messages.
        allow_replay: Whether dead letters may be replayed; otherwise the console is read-only.
        workers: Health endpoints of the workers, HOST:PORT.
    """

    operator: str
    allow_replay: bool = False
    workers: tuple[str, ...] = ()


@dataclass(slots=True)
class ConsoleContext:
    """Connections and options of a running console; tests construct it with fakes.

    Attributes:
        settings: Settings with the names of queues and tables.
        options: Options of the console.
        repository: Open repository of policies and acceptances.
        queues: Returns the source queue and the dead-letter queue, opened at the first call. Under
            a role without permissions for queues it raises AWSDeniedError.
        status: Status of queues and workers.
        session: Session of the SDK; None in tests.
        now: Returns the current time, timezone-aware.
        identity: Result of the identity check, whose `found` is the ARN; None until it is known.
        closing: Set when the console stops, so that streams end.
        scans: Scans of the dead-letter queue, shared by all viewers.
        replays: Dry runs and replays.
        coverage: Scans that count acceptances by day.
        checks: Runs of the checks of `doctor`.
        timeline: Dead letters by reason over time.
    """

    settings: Settings
    options: ConsoleOptions
    repository: AUPRepository
    queues: GetQueues
    status: StatusFeed
    session: aioboto3.Session | None = None
    now: Callable[[], datetime] = utc_now
    identity: CheckResult | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    timeline: Timeline = field(default_factory=Timeline)
    scans: DeadLetterScans = field(init=False)
    replays: Replays = field(init=False)
    coverage: CoverageScans = field(init=False)
    checks: CheckRuns = field(init=False)

    def __post_init__(self) -> None:
        self.scans = DeadLetterScans(
            self.queues,
            visibility_timeout_seconds=self.settings.look_seconds,
            polls=self.settings.poll_concurrency,
            state=self._dead_letter_state,
            now=self.now,
        )
        self.status.counted = self.scans.reason_counts
        self.replays = Replays(
            self.queues,
            self.repository,
            self.settings,
            self.scans,
            allowed=self.options.allow_replay,
            now=self.now,
        )

        self.coverage = CoverageScans(self.repository, self.now)
        self.checks = CheckRuns(partial(run_checks, self.settings, None), self.now)

    @property
    def region(self) -> str | None:
        """AWS region, from the settings or the profile."""
        profile = None if self.session is None else self.session.region_name
        return self.settings.aws.region or profile

    async def aclose(self) -> None:
        """End streams and background tasks; hidden dead letters become visible again."""
        self.closing.set()
        await self.checks.aclose()
        await self.coverage.cancel()
        await self.replays.aclose()
        await self.scans.aclose()

    async def _dead_letter_state(self) -> QueueState:
        """Return the state of the dead-letter queue that the overview shows.

        Raises:
            AWSError: The state cannot be read.
        """
        snapshot = await self.status.current()
        if snapshot.error is not None or snapshot.status is None:
            raise snapshot.error or AWSError("the state of the queues is not known yet")
        return snapshot.status.dead_letters.state


@asynccontextmanager
async def open_context(
    settings: Settings, options: ConsoleOptions
) -> AsyncIterator[ConsoleContext]:
    """Open the repository, and the queues when a page needs them.

    Raises:
        SettingsError: The region, profile or endpoint is missing or wrong.
        AWSError: Credentials cannot be retrieved.
    """
    async with AsyncExitStack() as stack:
        session = new_session()
        repository = await stack.enter_async_context(AUPRepository(settings.aws, session))
        queues = _opened_once(stack, settings, session)
        status = StatusFeed(queues, CloudWatch(settings, session), options.workers)
        stack.push_async_callback(status.aclose)
        context = ConsoleContext(settings, options, repository, queues, status, session)
        identifying = asyncio.create_task(_identify(context, session))
        try:
            yield context
        finally:
            await context.aclose()
            identifying.cancel()
            await asyncio.gather(identifying, return_exceptions=True)


def _opened_once(stack: AsyncExitStack, settings: Settings, session: aioboto3.Session) -> GetQueues:
    """Return a function that opens the queues at its first successful call."""
    lock, opened = asyncio.Lock(), list[tuple[Queue, Queue]]()

    async def get() -> tuple[Queue, Queue]:
        async with lock:
            if not opened:
                opening = open_queues(settings, session=session)
                opened.append(await stack.enter_async_context(opening))
            return opened[0]

    return get


async def _identify(context: ConsoleContext, session: aioboto3.Session) -> None:
    context.identity = await account.identity(session, context.settings.aws)
