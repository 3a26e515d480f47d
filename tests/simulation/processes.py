"""Simulated processes of workers and replays that can be stopped, interrupted and killed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulation.audit import CALLER, SafetyError
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.virtual_clock import WallClock, abandon, never_busy
from worker.aws.sqs import Queue, open_queues
from worker.domain.message import BATCH_MAX_ENTRIES
from worker.domain.outcome import OutcomeKind
from worker.errors import (
    AUPError,
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSThrottledError,
    AWSUnavailableError,
    GaveUpError,
)
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import ReplayFigures, replay
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.doctor.preflight import check
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository, SingletonMeta
from worker.settings import Settings

if TYPE_CHECKING:
    from tests.simulation.world import World


# Each call has a deadline, so a response takes no longer.
_RESPONSE_SECONDS = 10.0
_CHECK_INTERVAL_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class Process:
    """Simulated process with a session, a clock and a main task."""

    world: World
    name: str
    clock: WallClock = field(default_factory=WallClock)
    session: SimulatedSession = field(init=False)
    task: asyncio.Task[None] = field(init=False)
    started_at: float = 0.0
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self.session = self.world.session()

    def start(self) -> None:
        """Start the main task."""
        self.world.trace.add(
            f"{self.name} starts with a clock skew of {self.clock.skew.total_seconds():g} s"
        )
        self.task = asyncio.create_task(self._run(), name=self.name)

    @property
    def is_alive(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return not self.session.killed and not self.task.done()

    async def kill(self) -> None:
        """Kill it at once, without finishing anything."""
        self.world.trace.add(f"{self.name} is killed")
        self.session.kill()
        await abandon(self.task)

    async def _run(self) -> None:
        CALLER.set(self.name)
        loop = asyncio.get_running_loop()
        self.started_at = loop.time()
        try:
            await self.main()
        finally:
            self.ended_at = loop.time()

    async def main(self) -> None:
        """Run the program of the process."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class WorkerProcess(Process):
    """Process that runs the real pipeline with its own repository and session.

    Attributes:
        runs_preflight: Whether it checks access before its first poll, as the service does.
        delay_seconds: Delay before its process manager starts it.
        release: Its repository; that of an earlier release writes records of format 1.
    """

    runs_preflight: bool = False
    delay_seconds: float = 0.0
    release: type[AUPRepository] = AUPRepository
    pipeline: Pipeline | None = None
    _interrupted: bool = False

    async def main(self) -> None:
        """Run the pipeline as the service does."""
        self.world.audit.lease_checks[self.name] = self._holds
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        settings = self.world.settings
        # The repository is a singleton per process, but simulated processes share an interpreter.
        SingletonMeta.forget(self.release)
        repository = self.release(settings.aws, self.session, self.clock.now)  # type: ignore[arg-type] # simulated session
        SingletonMeta.forget(self.release)
        metrics = Metrics(calls=repository.calls)
        queues = open_queues(settings, calls=metrics.calls, session=self.session)  # type: ignore[arg-type] # the same
        async with repository, queues as (source, dead_letters):
            if self.runs_preflight:
                settings = await _checked(settings, source, dead_letters, repository)
            self.pipeline = assemble(
                (source, dead_letters),
                repository,
                settings,
                metrics=metrics,
                now=self.clock.now,
                busy=never_busy,
            )
            await self.pipeline.run()

    def request_stop(self) -> None:
        """Send SIGTERM."""
        self.world.trace.add(f"{self.name} is asked to stop")
        if self.pipeline is not None:
            self.pipeline.stopping.set()
        else:
            self._interrupt()

    async def stop(self) -> None:
        """Send SIGTERM and wait until it ends within the stop timeout.

        Raises:
            AssertionError: It does not end in time, or it ends with an error.
        """
        self.request_stop()
        if self._interrupted:
            return
        began_at = asyncio.get_running_loop().time()
        await asyncio.wait([self.task], timeout=300)
        took = asyncio.get_running_loop().time() - began_at
        assert self.task.done(), f"{self.name} does not stop"
        if self.failure is None:
            self.task.result()
        assert took <= self.world.settings.stop_timeout_seconds + 1, f"{self.name} took {took} s"
        self.check()
        if self.pipeline is not None:
            assert self.pipeline.slots.in_flight == 0, f"{self.name} stopped with slots in use"

    async def stop_at_once(self) -> None:
        """Send SIGTERM twice."""
        self.request_stop()
        await asyncio.sleep(0.5)
        self._interrupt()
        await asyncio.wait([self.task], timeout=60)
        assert self.task.done(), f"{self.name} does not stop at once"
        self.check()

    def _interrupt(self) -> None:
        self.world.trace.add(f"{self.name} is interrupted")
        self._interrupted = True
        self.task.cancel()

    def check(self) -> None:
        """Check its accounting, its slots and how it ended.

        Raises:
            SafetyError: A check failed.
        """
        if self.session.killed:
            return
        self._check_ending()
        if self.pipeline is None:
            return
        accounting, slots = self.pipeline.metrics.accounting, self.pipeline.slots
        kinds = sum(accounting.by_kind[kind] for kind in OutcomeKind)
        if not accounting.is_balanced or accounting.received != kinds + accounting.held:
            raise SafetyError(f"{self.name}: accounting does not balance: {accounting.figures()}")
        polled = BATCH_MAX_ENTRIES * self.world.settings.poll_concurrency
        if self.is_alive and not accounting.held <= slots.in_flight <= accounting.held + polled:
            raise SafetyError(
                f"{self.name}: {slots.in_flight} slots for {accounting.held} messages"
            )
        if not 0 <= slots.in_flight <= slots.limit:
            raise SafetyError(f"{self.name}: {slots.in_flight} of {slots.limit} slots")

    def _check_ending(self) -> None:
        if not self.task.done() or self._interrupted:
            return
        if self.failure is not None:
            self._check_failure(self.failure)
            return
        if self.task.cancelled() or self.task.exception():
            raise SafetyError(f"{self.name} ended in {self.task!r}")
        if self.pipeline is not None and not self.pipeline.stopping.is_set():
            raise SafetyError(f"{self.name} ended by itself")

    @property
    def failure(self) -> AUPError | None:
        """Error that ended it and makes its process manager restart it, if any."""
        if not self.task.done() or self.task.cancelled():
            return None
        error = self.task.exception()
        return error if isinstance(error, AUPError) else None

    def _check_failure(self, error: AUPError) -> None:
        outages, give_up_seconds = self.world.outages, self.world.settings.give_up_seconds
        if self.pipeline is None:
            is_denied = isinstance(error, AWSDeniedError | AWSNotFoundError)
            if not is_denied or not outages.was_denied(self.ended_at - _RESPONSE_SECONDS):
                raise SafetyError(f"{self.name} did not start: {error!r}")
            return
        lasted = outages.denied_seconds(self.started_at, self.ended_at)
        if not isinstance(error, GaveUpError) or lasted < give_up_seconds - _RESPONSE_SECONDS:
            raise SafetyError(
                f"{self.name} was denied access for {lasted:g} s and ended in {error!r}"
            )
        if self.pipeline.slots.in_flight:
            raise SafetyError(f"{self.name} gave up with slots in use")

    @property
    def recorded(self) -> int:
        """Number of acceptances that it reports as recorded."""
        return (
            self.pipeline.metrics.accounting.by_kind[OutcomeKind.RECORDED] if self.pipeline else 0
        )

    def _holds(self, handle: str) -> bool:
        if self.pipeline is None or not self.is_alive:
            return False
        leases = self.pipeline.leases._held.values()
        return any(lease.message.receipt_handle == handle for lease in leases)


async def _checked(
    settings: Settings, source: Queue, dead_letters: Queue, repository: AUPRepository
) -> Settings:
    """Run the preflight as the service does: retry temporary errors, raise denials."""
    while True:
        try:
            return await check(settings, source, dead_letters, repository)
        except (AWSThrottledError, AWSUnavailableError):
            await asyncio.sleep(_CHECK_INTERVAL_SECONDS)


@dataclass(slots=True, eq=False)
class ReplayProcess(Process):
    """Process that runs the real replay."""

    filters: DeadLetterFilter = field(default_factory=DeadLetterFilter)
    options: ReplayOptions = field(default_factory=ReplayOptions)
    figures: ReplayFigures | None = None

    async def main(self) -> None:
        """Replay dead letters; an AWS error ends the process, as it ends the command."""
        settings = self.world.settings
        try:
            async with open_queues(settings, session=self.session) as (source, dead_letters):  # type: ignore[arg-type] # simulated session
                self.figures = await replay(
                    source, dead_letters, self.filters, options=self.options, now=self.clock.now
                )
        except AWSError as error:
            self.world.trace.add(f"{self.name} fails: {error}")

    async def interrupt(self) -> None:
        """Interrupt it as Ctrl-C does."""
        self.world.trace.add(f"{self.name} is interrupted")
        self.task.cancel()
        await asyncio.wait([self.task])
