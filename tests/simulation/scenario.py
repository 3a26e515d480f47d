"""Play what one seed decides: first everything goes wrong, then everything must come right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from tests.simulation.audit import SafetyError
from tests.simulation.faults import FaultRates, Faults
from tests.simulation.outages import Outage, Trouble
from tests.simulation.processes import ReplayProcess, WorkerProcess
from tests.simulation.trace import Trace
from tests.simulation.traffic import HOPELESS, Kind, drawn, large_ones
from tests.simulation.virtual_clock import START, WallClock, run
from tests.simulation.world import AMPLE_RETENTION_SECONDS, World
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.scan import VISIBILITY_TIMEOUT_SECONDS

# Within what is tolerated, beyond it, and beyond what AWS itself lets pass.
_SKEWS_SECONDS = (200.0, 3600.0, 172_800.0)
# Date headers: right, as they are nearly always; absent; wrong.
_DATES = (None, None, None, "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT")
_DRAIN_SECONDS = 1800.0
_LAST_REPLAYS = 5
_MOST_RESTART_SECONDS = 120.0
_LARGE_SHARE = 0.15
_SHORT_RETENTION_SHARE = 0.2
_REPLAYED_REASONS = ("exhausted", "unexplained", "unknown_policy", "conflict", "malformed")


@dataclass(frozen=True, slots=True)
class Report:
    """Say what came to pass; the same seed gives an equal report."""

    seconds: float
    sent: int
    recorded: int
    dead: int
    received: int
    faults: int
    kills: int
    denied: int
    gone: int
    gave_up: int
    expired: int
    large: int


@dataclass(slots=True)
class Scenario:
    """Drive producers, workers and replays through the plan of a seed."""

    plan: Random
    world: World
    workers: list[WorkerProcess] = field(default_factory=list)
    gone: list[WorkerProcess] = field(default_factory=list)
    replays: list[ReplayProcess] = field(default_factory=list)
    kills: int = 0
    gave_up: int = 0
    large: int = 0
    started: int = 0
    outage_seconds: tuple[int, ...] = (10, 100, 800)
    producing: asyncio.Task[None] | None = None

    async def play(self) -> Report:
        """Go through all of it."""
        self.large = self.plan.randrange(1, 4) if self.plan.random() < _LARGE_SHARE else 0
        self.producing = asyncio.create_task(self._produce(self.plan.randrange(5, 60)))
        for _ in range(self.plan.randrange(1, 4)):
            self._start_worker()
        self._draw_faults()
        for _ in range(self.plan.randrange(2, 12)):
            await self._step()
        await self._come_right()
        return self._report()

    @property
    def all_faults(self) -> tuple[Faults, Faults]:
        """Return what goes wrong with both services."""
        return self.world.sqs_faults, self.world.table_faults

    def check(self) -> None:
        """Raise SafetyError unless everything is as it must be at any moment."""
        self.world.audit.check()
        self.world.dynamodb.verify()
        for worker in (*self.workers, *self.gone):
            worker.check()
        claimed = sum(worker.recorded for worker in (*self.workers, *self.gone))
        if claimed > len(self.world.audit.store):
            raise SafetyError(f"{claimed} claimed, {len(self.world.audit.store)} recorded")

    async def _produce(self, count: int) -> None:
        rng = Random(self.plan.random())
        pause = rng.choice((0.0, 0.1, 3.0))
        accepted_at = (START + timedelta(seconds=rng.choice((-3600, 0, 60)))).isoformat()
        sendings = [*drawn(rng, count, accepted_at), *large_ones(rng, self.large, accepted_at)]
        if self.large:
            rng.shuffle(sendings)  # a tampered message may then come before the one it copies
        for sending in sendings:
            self.world.send(sending)
            await asyncio.sleep(rng.random() * pause)

    def _start_worker(self, delay_seconds: float = 0.0) -> None:
        self.workers.append(self._started_worker(delay_seconds))

    def _started_worker(self, delay_seconds: float) -> WorkerProcess:
        self.started += 1
        skew = self.plan.choice((0.0, 0.0, 2.0, *_SKEWS_SECONDS))
        clock = WallClock(timedelta(seconds=self.plan.uniform(-skew, skew)))
        name = f"worker-{self.started}"
        worker = WorkerProcess(self.world, name, clock, checks=True, delay_seconds=delay_seconds)
        worker.start()
        worker.task.add_done_callback(lambda _: self._supervise(worker))
        return worker

    def _supervise(self, worker: WorkerProcess) -> None:
        """Start a worker anew that ended in failure by itself."""
        if worker.failure is None or worker not in self.workers:
            return
        self.world.trace.tell(f"{worker.name} ended: {worker.failure}")
        self.gave_up += 1
        self.gone.append(worker)
        delay = self.plan.random() * _MOST_RESTART_SECONDS
        self.workers[self.workers.index(worker)] = self._started_worker(delay)

    def _draw_faults(self) -> None:
        for faults in self.all_faults:
            most = self.plan.choice((0.0, 0.02, 0.1, 0.3))
            faults.rates = FaultRates.drawn(self.plan, most)
        self.world.trace.tell(f"sqs: {self.world.sqs_faults.rates}")
        self.world.trace.tell(f"dynamodb: {self.world.table_faults.rates}")

    async def _step(self) -> None:
        await self._pass_time()
        actions: tuple[tuple[int, Callable[[], Awaitable[None]]], ...] = (
            (5, self._kill),
            (2, self._stop),
            (1, self._stop_at_once),
            (2, self._break_down),
            (2, self._deny),
            (1, self._remove),
            (1, self._rest),
            (2, self._change_faults),
            (2, self._replay),
            (1, self._skew),
            (1, self._publish),
        )
        weights, choices = zip(*actions, strict=True)
        await self.plan.choices(choices, weights)[0]()
        self.check()

    async def _pass_time(self) -> None:
        """Wait for a time, or for something to happen: trouble often sits right behind it."""
        seconds = self.plan.choice((0.05, 1.0, 10.0, 100.0))
        if self.plan.random() < 0.5:
            await asyncio.sleep(self.plan.random() * seconds)
        else:
            await self.world.audit.after(self.plan.randrange(1, 40), seconds)
            await asyncio.sleep(self.plan.choice((0.0, 0.0, self.plan.random() * 0.03)))
        self.check()

    def _take_worker(self) -> WorkerProcess:
        worker = self.workers.pop(self.plan.randrange(len(self.workers)))
        self.gone.append(worker)
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
            worker.begin_to_stop()
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

    async def _break_down(self) -> None:
        await self._endure(Trouble.DOWN)

    async def _deny(self) -> None:
        await self._endure(Trouble.DENIED)

    async def _remove(self) -> None:
        await self._endure(Trouble.GONE)

    async def _endure(self, trouble: Trouble) -> None:
        outage = Outage.drawn(self.plan, trouble)
        self.world.trace.tell(str(outage))
        self.world.outages.begin(outage)
        most_seconds = self.plan.choice(self.outage_seconds)
        await asyncio.sleep(self.plan.random() * most_seconds)
        self.check()
        self.world.trace.tell(f"no longer: {outage}")
        self.world.outages.end(outage)

    async def _rest(self) -> None:
        """Let everything go well for a while: whatever is left can be settled in it."""
        rates = [faults.rates for faults in self.all_faults]
        for faults in self.all_faults:
            faults.rates = FaultRates()
        self.world.trace.tell("everything goes well for a while")
        self.world.outages.calm_begins()
        await asyncio.sleep(self.plan.random() * self.plan.choice((100, 500)))
        self.check()
        self.world.outages.calm_ends()
        for faults, before in zip(self.all_faults, rates, strict=True):
            faults.rates = before

    async def _change_faults(self) -> None:
        self._draw_faults()

    async def _replay(self) -> None:
        reasons = self.plan.sample(_REPLAYED_REASONS, self.plan.randrange(3))
        limit = self.plan.choice((None, 1, 5))
        process = ReplayProcess(
            self.world,
            f"replay-{len(self.replays)}",
            choice=DeadLetterFilter(reasons=reasons, limit=limit),
        )
        process.start()
        self.replays.append(process)
        if self.plan.random() < 0.3:
            await self.world.audit.after(self.plan.randrange(1, 20), 5.0)
            await process.interrupt()

    async def _skew(self) -> None:
        worker = self.plan.choice(self.workers)
        most = self.plan.choice(_SKEWS_SECONDS)
        worker.clock.skew = timedelta(seconds=self.plan.uniform(-most, most))
        self.world.trace.tell(
            f"{worker.name}: clock wrong by {worker.clock.skew.total_seconds():g} s"
        )

    async def _publish(self) -> None:
        self.world.publish_late()

    async def _come_right(self) -> None:
        """End the faults: what is left must find its place by itself, and soon."""
        world = self.world
        world.quiet_down()
        world.outages.calm_begins()
        world.publish_late()
        for worker in self.workers:
            worker.clock.skew = timedelta()
        if self.producing is not None:
            await self.producing
        self.check()
        await self._drain_one_that_is_busy()
        await self._until_drained()
        await self._replay_everything()
        for worker in self.workers:
            await worker.stop()
            if worker.pipeline is None:
                continue  # its supervisor had not got it going yet
            assert worker.pipeline.metrics.accounting.held == 0, f"{worker.name} holds messages"
            assert worker.pipeline.slots.in_flight == 0, f"{worker.name} holds slots"
        self.check()
        self._check_ends()

    async def _drain_one_that_is_busy(self) -> None:
        """Stop a worker that never saw a fault in mid-work: nothing may be stranded with it."""
        self._start_worker()
        worker = self.workers[-1]
        worker.clock.skew = timedelta()
        await self._pass_time()
        await worker.stop()
        stranded = self.world.audit.stranded(worker.name)
        assert not stranded, f"{worker.name} stopped and left {stranded}"
        self.gone.append(self.workers.pop())

    async def _replay_everything(self) -> None:
        world = self.world
        for process in self.replays:
            await asyncio.wait([process.task])
        if self.replays:
            await asyncio.sleep(
                VISIBILITY_TIMEOUT_SECONDS + 1
            )  # what they have hidden shows itself again
        # One run leaves alone what it takes for its own message come back: a copy needs another.
        for number in range(_LAST_REPLAYS):
            process = ReplayProcess(world, f"last replay {number}")
            process.start()
            await process.task
            assert process.figures is not None
            assert process.figures.failed == process.figures.undeleted == 0, process.figures
            await self._until_drained()
            if not self._wrongly_dead():
                break

    def _wrongly_dead(self) -> list[str]:
        """Return what lies among the dead letters and is recorded, or can be."""
        audit = self.world.audit
        dead = [audit.sendings[body] for body in audit.bodies(audit.dead_letters)]
        return [
            sending.body
            for sending in dead
            if sending.kind not in HOPELESS and not audit.is_conflict(sending)
        ]

    async def _until_drained(self) -> None:
        source = self.world.audit.source
        await self.world.until(
            lambda: not source.messages, _DRAIN_SECONDS, f"{source.name} is empty"
        )
        self.check()

    def _check_ends(self) -> None:
        audit = self.world.audit
        assert not self._wrongly_dead(), f"still dead: {self._wrongly_dead()}"
        dead = audit.bodies(audit.dead_letters)
        for body, sending in audit.sendings.items():
            story = f"{sending.kind.value} {body[:200]}"
            if body in audit.expired:
                continue
            if sending.kind in HOPELESS or audit.is_conflict(sending):
                assert body in dead, f"neither recorded nor dead: {story}"
                # A host whose clock is wrong returns the future until the redrive policy moves it.
                moved = sending.kind is Kind.FUTURE and body not in audit.burials
                assert moved or audit.burials[body], f"dead without a reason: {story}"
            else:
                assert audit.is_settled(sending), f"not recorded: {story}"

    def _report(self) -> Report:
        world = self.world
        faults = self.all_faults
        return Report(
            seconds=asyncio.get_running_loop().time(),
            sent=len(world.audit.sendings),
            recorded=len(world.audit.store),
            dead=len(world.audit.dead_letters.messages),
            received=world.audit.source.handed_out_count,
            faults=sum(each.happened.total() for each in faults),
            kills=self.kills,
            denied=sum(each.happened["denied"] for each in faults),
            gone=sum(each.happened["gone"] for each in faults),
            gave_up=self.gave_up,
            expired=world.audit.expired.total(),
            large=self.large,
        )


def play(seed: int, trace: Trace | None = None) -> Report:
    """Play a seed from beginning to end.

    Raises:
        AssertionError: Something is not as it must be.
    """
    trace = trace or Trace()

    async def main() -> Report:
        plan = Random(seed)
        retention = _drawn_retention(plan)
        settings = _drawn_settings(plan)
        world = await World.opened(seed, trace, retention_seconds=retention, **settings)
        date = plan.choice(_DATES)
        if date is not None:
            world.sqs.date = lambda: date
        scenario = Scenario(plan, world)
        if retention != AMPLE_RETENTION_SECONDS:
            scenario.outage_seconds = (10, 2 * retention[0], 2 * retention[0])
        return await scenario.play()

    with trace.logged():
        return run(main, seed=seed)


def _drawn_settings(plan: Random) -> dict[str, Any]:
    return {
        "write_api": plan.choice(("batch", "put")),
        "slots": plan.choice((1, 3, 20, 60)),
        "poll_concurrency": plan.choice((1, 2, 4)),
        "settle_concurrency": plan.choice((1, 4)),
        "wait_seconds": plan.choice((1, 5, 20, 20, 20)),
        "hold_seconds": plan.choice((30.0, 120.0, 600.0)),
        "give_up_seconds": plan.choice((60.0, 300.0, 300.0)),
    }


def _drawn_retention(plan: Random) -> tuple[int, int]:
    """Draw how long the queues keep messages, the dead letters for longer as they should."""
    if plan.random() >= _SHORT_RETENTION_SHARE:
        return AMPLE_RETENTION_SECONDS
    source = plan.choice((600, 600, 1200))
    return source, round(source * plan.uniform(1.5, 4.0))
