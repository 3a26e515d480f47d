"""Scenario drawn from a seed: first faults of every kind, then a recovery without faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from tests.simulation.audit import SafetyError
from tests.simulation.drawn_settings import drawn_retention, drawn_settings
from tests.simulation.earlier_release import EarlierRepository
from tests.simulation.edits import EditProcess
from tests.simulation.faults import FaultRates, Faults
from tests.simulation.outages import Outage, OutageKind
from tests.simulation.processes import ReplayProcess, WorkerProcess
from tests.simulation.sqs_messages import size
from tests.simulation.trace import Trace
from tests.simulation.traffic import HOPELESS, LANGUAGES, Kind, drawn, large_ones
from tests.simulation.virtual_clock import START, WallClock, run
from tests.simulation.world import LONG_RETENTION_SECONDS, World
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.scan import VISIBILITY_TIMEOUT_SECONDS
from worker.repository import AUPRepository

# Tolerated, not tolerated, and beyond what AWS accepts in signatures.
_SKEWS_SECONDS = (200.0, 3600.0, 172_800.0)
# Date headers: usually right, sometimes missing or wrong.
_DATES = (None, None, None, "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT")
_DRAIN_SECONDS = 1800.0
_LAST_REPLAYS = 5
_MAX_RESTART_SECONDS = 120.0
_LARGE_SHARE = 0.15
_REPLAYED_REASONS = ("exhausted", "unexplained", "unknown_policy", "conflict", "malformed")
_EARLIER_RELEASE_SHARE = 0.3
_HISTORY_BYTES = 1000  # of a replay, at most


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a run; equal for equal seeds."""

    seconds: float
    sent: int
    recorded: int
    dead_lettered: int
    received: int
    faults: int
    kills: int
    denied: int
    missing: int
    gave_up: int
    expired: int
    large: int
    earlier: int
    edited: int
    languages: int


@dataclass(slots=True)
class Scenario:
    """Producers, workers and replays that follow the plan of a seed."""

    plan: Random
    world: World
    workers: list[WorkerProcess] = field(default_factory=list)
    ended: list[WorkerProcess] = field(default_factory=list)
    replays: list[ReplayProcess] = field(default_factory=list)
    kills: int = 0
    gave_up: int = 0
    large: int = 0
    worker_count: int = 0
    earlier_release_share: float = 0.0
    outage_seconds: tuple[int, ...] = (10, 100, 800)
    producing: asyncio.Task[None] | None = None

    async def run(self) -> Report:
        """Run the scenario and return its report."""
        self.large = self.plan.randrange(1, 4) if self.plan.random() < _LARGE_SHARE else 0
        if self.plan.random() < _EARLIER_RELEASE_SHARE:
            self.earlier_release_share = 0.5
            self.world.audit.earlier_release_until = float("inf")
        self.producing = asyncio.create_task(self._produce(self.plan.randrange(5, 60)))
        for _ in range(self.plan.randrange(1, 4)):
            self._start_worker()
        await self._draw_faults()
        for _ in range(self.plan.randrange(2, 12)):
            await self._step()
        await self._recover()
        return self._report()

    @property
    def all_faults(self) -> tuple[Faults, Faults]:
        """Faults of both services."""
        return self.world.sqs_faults, self.world.table_faults

    def check(self) -> None:
        """Check all invariants; raise SafetyError if one is violated."""
        self.world.audit.check()
        self.world.dynamodb.verify()
        for worker in (*self.workers, *self.ended):
            worker.check()
        claimed = sum(worker.recorded for worker in (*self.workers, *self.ended))
        if claimed > len(self.world.audit.store):
            raise SafetyError(f"{claimed} claimed, {len(self.world.audit.store)} recorded")

    async def _produce(self, count: int) -> None:
        rng = Random(self.plan.random())
        pause = rng.choice((0.0, 0.1, 3.0))
        accepted_at = (START + timedelta(seconds=rng.choice((-3600, 0, 60)))).isoformat()
        sent_messages = [*drawn(rng, count, accepted_at), *large_ones(rng, self.large, accepted_at)]
        if self.large:
            rng.shuffle(sent_messages)  # a tampered message may then precede the one it copies
        for sent_message in sent_messages:
            if sent_message.kind is Kind.RECORDED_EARLIER:
                self.world.record_earlier(sent_message)
        for sent_message in sent_messages:
            self.world.send(sent_message)
            await asyncio.sleep(rng.random() * pause)

    def _start_worker(self, delay_seconds: float = 0.0) -> None:
        self.workers.append(self._new_worker(delay_seconds))

    def _new_worker(self, delay_seconds: float) -> WorkerProcess:
        self.worker_count += 1
        skew = self.plan.choice((0.0, 0.0, 2.0, *_SKEWS_SECONDS))
        clock = WallClock(timedelta(seconds=self.plan.uniform(-skew, skew)))
        is_earlier = self.plan.random() < self.earlier_release_share
        worker = WorkerProcess(
            self.world,
            f"worker-{self.worker_count}",
            clock,
            runs_preflight=True,
            delay_seconds=delay_seconds,
            release=EarlierRepository if is_earlier else AUPRepository,
        )
        worker.start()
        worker.task.add_done_callback(lambda _: self._restart_failed(worker))
        return worker

    def _restart_failed(self, worker: WorkerProcess) -> None:
        """Restart a worker that has failed."""
        if worker.failure is None or worker not in self.workers:
            return
        self.world.trace.add(f"{worker.name} ended: {worker.failure}")
        self.gave_up += 1
        self.ended.append(worker)
        delay = self.plan.random() * _MAX_RESTART_SECONDS
        self.workers[self.workers.index(worker)] = self._new_worker(delay)

    async def _draw_faults(self) -> None:
        for faults in self.all_faults:
            limit = self.plan.choice((0.0, 0.02, 0.1, 0.3))
            faults.rates = FaultRates.drawn(self.plan, limit)
        self.world.trace.add(f"sqs: {self.world.sqs_faults.rates}")
        self.world.trace.add(f"dynamodb: {self.world.table_faults.rates}")

    async def _step(self) -> None:
        await self._pass_time()
        actions: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (5, self._kill),
            (2, self._stop),
            (1, self._stop_at_once),
            (2, self._make_unavailable),
            (2, self._deny),
            (1, self._make_missing),
            (1, self._run_without_faults),
            (2, self._draw_faults),
            (2, self._replay),
            (1, self._skew),
            (1, self._publish),
            (2, self._publish_language),
            (2, self._edit),
        )
        weights, choices = zip(*actions, strict=True)
        await self.plan.choices(choices, weights)[0]()
        self.check()

    async def _pass_time(self) -> None:
        """Wait for a time or for some queue events, because failures often follow events."""
        seconds = self.plan.choice((0.05, 1.0, 10.0, 100.0))
        if self.plan.random() < 0.5:
            await asyncio.sleep(self.plan.random() * seconds)
        else:
            await self.world.audit.wait_for_events(self.plan.randrange(1, 40), seconds)
            await asyncio.sleep(self.plan.choice((0.0, 0.0, self.plan.random() * 0.03)))
        self.check()

    def _take_worker(self) -> WorkerProcess:
        worker = self.workers.pop(self.plan.randrange(len(self.workers)))
        self.ended.append(worker)
        return worker

    async def _kill(self) -> None:
        self.kills += 1
        if self.replays and self.replays[-1].is_alive and self.plan.random() < 0.5:
            await self.replays[-1].kill()
            return
        await self._take_worker().kill()
        await self._restart()

    async def _stop(self) -> None:
        worker = self._take_worker()
        if self.plan.random() < 0.3:
            worker.request_stop()
            await asyncio.sleep(self.plan.random() * 30)
            await worker.kill()
        else:
            await worker.stop()
        await self._restart()

    async def _stop_at_once(self) -> None:
        await self._take_worker().stop_at_once()
        await self._restart()

    async def _restart(self) -> None:
        if self.workers and self.plan.random() < 0.5:
            await asyncio.sleep(self.plan.random() * 30)
        self._start_worker()

    async def _make_unavailable(self) -> None:
        await self._have_outage(OutageKind.DOWN)

    async def _deny(self) -> None:
        await self._have_outage(OutageKind.DENIED)

    async def _make_missing(self) -> None:
        await self._have_outage(OutageKind.MISSING)

    async def _have_outage(self, kind: OutageKind) -> None:
        outage = Outage.drawn(self.plan, kind)
        self.world.trace.add(str(outage))
        self.world.outages.begin(outage)
        max_seconds = self.plan.choice(self.outage_seconds)
        await asyncio.sleep(self.plan.random() * max_seconds)
        self.check()
        self.world.trace.add(f"ended: {outage}")
        self.world.outages.end(outage)

    async def _run_without_faults(self) -> None:
        """Run without faults for a while, so that messages can be settled."""
        rates = [faults.rates for faults in self.all_faults]
        for faults in self.all_faults:
            faults.rates = FaultRates()
        self.world.trace.add("no faults for a while")
        self.world.outages.begin_fault_free_period()
        await asyncio.sleep(self.plan.random() * self.plan.choice((100, 500)))
        self.check()
        self.world.outages.end_fault_free_period()
        for faults, before in zip(self.all_faults, rates, strict=True):
            faults.rates = before

    async def _replay(self) -> None:
        reasons = self.plan.sample(_REPLAYED_REASONS, self.plan.randrange(3))
        limit = self.plan.choice((None, 1, 5))
        process = ReplayProcess(
            self.world,
            f"replay-{len(self.replays)}",
            filters=DeadLetterFilter(reasons=reasons, limit=limit),
        )
        await self._start_replay(process)

    async def _start_replay(self, process: ReplayProcess) -> None:
        process.start()
        self.replays.append(process)
        if self.plan.random() < 0.3:
            await self.world.audit.wait_for_events(self.plan.randrange(1, 20), 5.0)
            await process.interrupt()

    async def _skew(self) -> None:
        worker = self.plan.choice(self.workers)
        limit = self.plan.choice(_SKEWS_SECONDS)
        worker.clock.skew = timedelta(seconds=self.plan.uniform(-limit, limit))
        self.world.trace.add(
            f"{worker.name}: clock skew of {worker.clock.skew.total_seconds():g} s"
        )

    async def _publish(self) -> None:
        self.world.publish_late()

    async def _publish_language(self) -> None:
        self.world.publish_language()

    async def _edit(self) -> None:
        """Replay dead letters of a reason with an edit."""
        process = EditProcess(self.world, f"edit-{len(self.replays)}")
        process.plan(self.plan)
        await self._start_replay(process)

    async def _recover(self) -> None:
        """Stop all faults and check that every remaining message is settled in time."""
        world = self.world
        world.stop_faults()
        world.outages.begin_fault_free_period()
        world.publish_late()
        for _ in LANGUAGES:
            world.publish_language()
        for worker in self.workers:
            worker.clock.skew = timedelta()
        if self.producing is not None:
            await self.producing
        self.check()
        await self._end_deployment()
        await self._stop_a_busy_worker()
        await self._until_drained()
        await self._replay_everything()
        for worker in self.workers:
            await worker.stop()
            if worker.pipeline is None:
                continue  # its process manager has not started it yet
            assert worker.pipeline.metrics.accounting.held == 0, f"{worker.name} holds messages"
            assert worker.pipeline.slots.in_flight == 0, f"{worker.name} holds slots"
        self.check()
        self._check_outcomes()

    async def _end_deployment(self) -> None:
        """Replace the workers of an earlier release."""
        if not self.earlier_release_share:
            return
        self.earlier_release_share = 0.0
        # Chosen again after each stop, in which others may give up and be replaced.
        while earlier := [each for each in self.workers if each.release is EarlierRepository]:
            worker = earlier[0]
            self.workers.remove(worker)
            self.ended.append(worker)
            await worker.stop()
            self._start_worker()
        self.world.audit.earlier_release_until = asyncio.get_running_loop().time()

    async def _stop_a_busy_worker(self) -> None:
        """Stop a busy worker that had no faults: it must leave no message in flight."""
        self._start_worker()
        worker = self.workers[-1]
        worker.clock.skew = timedelta()
        await self._pass_time()
        await worker.stop()
        left_in_flight = self.world.audit.left_in_flight(worker.name)
        assert not left_in_flight, f"{worker.name} stopped and left {left_in_flight}"
        self.ended.append(self.workers.pop())

    async def _replay_everything(self) -> None:
        world = self.world
        for process in self.replays:
            await asyncio.wait([process.task])
        if self.replays:
            # Messages that they received are visible again.
            await asyncio.sleep(VISIBILITY_TIMEOUT_SECONDS + 1)
        # A run skips what looks like its own message coming back, so a copy needs another run.
        for number in range(_LAST_REPLAYS):
            process = ReplayProcess(world, f"last replay {number}")
            process.start()
            await process.task
            assert process.figures is not None
            assert process.figures.failed <= self._too_large_to_replay(), process.figures
            assert process.figures.undeleted == 0, process.figures
            await self._until_drained()
            if not self._recordable_dead_letters():
                break

    def _too_large_to_replay(self) -> int:
        """Return the number of dead letters that leave too little space for the history."""
        sent_messages = self.world.audit.sent_messages
        return sum(
            size(message.body, sent_messages[message.body].attributes) + _HISTORY_BYTES
            > MESSAGE_MAX_BYTES
            for message in self.world.audit.dead_letters.messages.values()
        )

    def _recordable_dead_letters(self) -> list[str]:
        """Return bodies of dead letters that are recorded or can be."""
        audit = self.world.audit
        dead_lettered = [audit.sent_messages[body] for body in audit.bodies(audit.dead_letters)]
        return [
            sent_message.body
            for sent_message in dead_lettered
            if sent_message.kind not in HOPELESS and not audit.is_conflict(sent_message)
        ]

    async def _until_drained(self) -> None:
        source = self.world.audit.source
        await self.world.until(
            lambda: not source.messages, _DRAIN_SECONDS, f"{source.name} is empty"
        )
        self.check()

    def _check_outcomes(self) -> None:
        audit = self.world.audit
        assert not self._recordable_dead_letters(), (
            f"still dead-lettered: {self._recordable_dead_letters()}"
        )
        dead_lettered = audit.bodies(audit.dead_letters)
        for body, sent_message in audit.sent_messages.items():
            description = f"{sent_message.kind.value} {body[:200]}"
            if body in audit.expired or body in audit.origins.edited:
                continue
            if sent_message.kind in HOPELESS or audit.is_conflict(sent_message):
                assert body in dead_lettered, f"neither recorded nor dead-lettered: {description}"
                # With a wrong clock, a worker returns them until the redrive policy moves them.
                moved = sent_message.kind is Kind.FUTURE and body not in audit.dead_letter_reasons
                assert moved or audit.dead_letter_reasons[body], (
                    f"dead-lettered without a reason: {description}"
                )
            else:
                assert audit.is_settled(sent_message), f"not recorded: {description}"

    def _report(self) -> Report:
        world = self.world
        faults = self.all_faults
        return Report(
            seconds=asyncio.get_running_loop().time(),
            sent=len(world.audit.sent_messages),
            recorded=len(world.audit.store),
            dead_lettered=len(world.audit.dead_letters.messages),
            received=world.audit.source.received_count,
            faults=sum(each.injected.total() for each in faults),
            kills=self.kills,
            denied=sum(each.injected["denied"] for each in faults),
            missing=sum(each.injected["missing"] for each in faults),
            gave_up=self.gave_up,
            expired=world.audit.expired.total(),
            large=self.large,
            earlier=sum(item["record_format"] == "1" for item in world.audit.store.items()),
            edited=sum("edits" in item for item in world.audit.store.items()),
            languages=sum("policy_locale" in item for item in world.audit.store.items()),
        )


def run_seed(seed: int, trace: Trace | None = None) -> Report:
    """Run the scenario of a seed.

    Raises:
        AssertionError: A check failed.
    """
    trace = trace or Trace()

    async def main() -> Report:
        plan = Random(seed)
        retention = drawn_retention(plan)
        settings = drawn_settings(plan)
        world = await World.opened(seed, trace, retention_seconds=retention, **settings)
        date = plan.choice(_DATES)
        if date is not None:
            world.sqs.date = lambda: date
        scenario = Scenario(plan, world)
        if retention != LONG_RETENTION_SECONDS:
            scenario.outage_seconds = (10, 2 * retention[0], 2 * retention[0])
        return await scenario.run()

    with trace.logged():
        return run(main, seed=seed)
