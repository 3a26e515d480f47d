"""How queues and workers stand: looked at again and again, at a cost that is bounded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue, QueueState
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError
from worker.operations.dead_letters.scan import walk
from worker.operations.status.scrape import Sample, scrape_all

# GetMetricData is billed by the metric, and SQS tells CloudWatch no more often.
AGES_SECONDS: Final = 60.0
# A look through the dead letters is billed by the receive and hides them for its time.
LOOK_AGAIN_SECONDS: Final = 15.0
LOOK_ANYWAY_SECONDS: Final = 300.0
LOOK_MOST: Final = 1000
LOOK_LONGEST_SECONDS: Final = 5.0
_LOOK_POLLS: Final = 4
_NOT_ASKED: Final = "not asked yet"
_HELD: Final = "all of them are held elsewhere for now"
_REDRIVEN: Final = (
    "not looked at: the dead-letter queue has a redrive policy of its own, which counts looks"
)
# What else the state tells is for the doctor.
_REPORTED: Final = (
    "url",
    "arn",
    "visible",
    "in_flight",
    "delayed",
    "retention_seconds",
    "fifo",
    "max_receive_count",
    "redrives_to",
)


@dataclass(frozen=True, slots=True)
class Census:
    """The dead letters by reason, as one look saw them.

    Attributes:
        counts: by reason; None where nobody could look.
        seen: how many the look saw.
        known: how many there were by SQS's own approximate count.
        unknown: why nobody could look; empty where somebody did.
        looked_at: when.
        oldest_at: when the first of those seen came into the queue.
        expires_at: when SQS deletes the first of those seen.
    """

    counts: dict[str, int] | None = None
    seen: int = 0
    known: int = 0
    unknown: str = _NOT_ASKED
    looked_at: datetime | None = None
    oldest_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def whole(self) -> bool:
        """Say whether the look saw all that SQS counts."""
        return self.counts is not None and self.seen >= self.known


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """One queue at one moment.

    Attributes:
        state: as SQS tells it.
        net_per_second: arrivals less departures since the sample before; None for the first.
        oldest_age_seconds: of its oldest message; None where nobody knows.
        age_unknown: why nobody knows; empty where somebody does, or the queue is empty.
    """

    state: QueueState
    net_per_second: float | None = None
    oldest_age_seconds: float | None = None
    age_unknown: str = ""

    @property
    def depth(self) -> int:
        """What is in it, visible or not."""
        return depth(self.state)

    def report(self) -> dict[str, Any]:
        """Give all of it under its names in JSON."""
        return {
            **{name: getattr(self.state, name) for name in _REPORTED},
            "oldest_age_seconds": _rounded(self.oldest_age_seconds),
            "oldest_age_unknown": self.age_unknown,
            "net_per_second": _rounded(self.net_per_second),
        }


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker at one moment.

    Attributes:
        sample: what it told.
        rates: deliveries settled per second, by what became of them; None where two samples are
            wanting.
    """

    sample: Sample
    rates: dict[OutcomeKind, float] | None = None

    def report(self) -> dict[str, Any]:
        """Give all of it under its names in JSON."""
        told, rates = self.sample, self.rates or {}
        return {
            "worker": told.address,
            "answers": not told.problem,
            "problem": told.problem,
            "version": told.version,
            "ready": told.ready,
            "not_ready": list(told.reasons),
            "held": None if told.problem else told.held,
            "recorded_per_second": _rounded(rates.get(OutcomeKind.RECORDED)),
            "duplicates_per_second": _rounded(rates.get(OutcomeKind.DUPLICATE)),
            "dead_lettered_per_second": _rounded(rates.get(OutcomeKind.DEAD_LETTERED)),
            "returned_per_second": _rounded(rates.get(OutcomeKind.RETURNED)),
        }


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at one moment."""

    at: datetime
    queue: QueueStatus
    dead_letters: QueueStatus
    census: Census
    workers: tuple[WorkerStatus, ...] = ()

    @property
    def recorded_per_second(self) -> float | None:
        """What all workers record together; None where none tells."""
        told = [each.rates[OutcomeKind.RECORDED] for each in self.workers if each.rates is not None]
        return sum(told) if told else None

    def report(self) -> dict[str, Any]:
        """Give all of it under its names in JSON."""
        census = self.census
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "queue": self.queue.report(),
            "dead_letters": {
                **self.dead_letters.report(),
                "reasons": census.counts,
                "reasons_seen": census.seen,
                "reasons_whole": census.whole,
                "reasons_unknown": census.unknown,
                "reasons_at": _written(census.looked_at),
                "first_expires_at": _written(census.expires_at),
            },
            "workers": [each.report() for each in self.workers],
        }


def depth(state: QueueState) -> int:
    """Count what is in a queue, visible or not."""
    return state.visible + state.in_flight + state.delayed


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Before:
    """What rates are reckoned from."""

    at_seconds: float = 0.0
    depths: tuple[int, int] | None = None
    samples: dict[str, Sample] = field(default_factory=dict)


class Observer:
    """Look at queues and workers as often as wanted.

    Queues and workers are asked at each `observe`; CloudWatch once a minute, and the dead letters
    are gone through when their number changed, each in the background.

    Args:
        queue: of acceptances.
        dead_letters: the dead-letter queue.
        cloudwatch: tells ages.
        workers: where each is asked, HOST:PORT.
        reasons: whether to look through the dead letters.
        look_seconds: how long a dead letter stays hidden if the look is killed.
        now: gives the present time, aware.
        clock: gives seconds that only grow.
    """

    def __init__(  # noqa: PLR0913 - what it looks at, and by which clocks
        self,
        queue: Queue,
        dead_letters: Queue,
        cloudwatch: CloudWatch,
        *,
        workers: Sequence[str] = (),
        reasons: bool = True,
        look_seconds: int = 120,
        now: Callable[[], datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queue, dead_letters
        self._cloudwatch = cloudwatch
        self._workers = list(workers)
        self._look_seconds = look_seconds
        self._now = now
        self._clock = clock
        self._before = _Before()
        self._ages: list[float | None] = [None, None]
        self._ages_unknown = _NOT_ASKED
        self._census = Census(unknown=_NOT_ASKED if reasons else "not looked at (--no-reasons)")
        self._reasons = reasons
        self._ages_at: float | None = None
        self._looked_at: float | None = None
        self._behind: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def observe(self, *, settle: bool = False) -> Status:
        """Ask queues and workers; what is asked less often comes as it was last.

        Args:
            settle: wait for what is asked in the background.

        Raises:
            AWSError: a queue does not tell its state.
        """
        asked = asyncio.gather(*(each.state() for each in self._queues))
        states, samples = await asyncio.gather(asked, scrape_all(self._workers, self._clock))
        self._ask_behind(states[1])
        if settle:
            # An interruption must not reach a look: `aclose` ends it in order.
            await asyncio.shield(asyncio.gather(*self._behind.values()))
        return self._status(states[0], states[1], samples)

    async def aclose(self) -> None:
        """End what is asked in the background, all that it hid visible again."""
        self._closing = True
        if "ages" in self._behind:
            self._behind["ages"].cancel()
        await asyncio.gather(*self._behind.values(), return_exceptions=True)
        await self._cloudwatch.aclose()

    def _status(self, source: QueueState, dead: QueueState, samples: list[Sample]) -> Status:
        now, before = self._clock(), self._before
        seconds = now - before.at_seconds
        nets: tuple[float | None, float | None] = None, None
        if before.depths is not None and seconds > 0:
            was = before.depths
            nets = (depth(source) - was[0]) / seconds, (depth(dead) - was[1]) / seconds
        workers = tuple(
            WorkerStatus(each, each.rates(before.samples.get(each.address))) for each in samples
        )
        samples_by_address = {each.address: each for each in samples}
        self._before = _Before(now, (depth(source), depth(dead)), samples_by_address)
        return Status(
            at=self._now(),
            queue=self._aged(QueueStatus(source, nets[0]), 0),
            dead_letters=self._aged(QueueStatus(dead, nets[1]), 1),
            census=self._census,
            workers=workers,
        )

    def _aged(self, status: QueueStatus, index: int) -> QueueStatus:
        if not status.depth:
            return status
        ages = [self._ages[index]]
        if index == 1 and self._census.whole and self._census.oldest_at is not None:
            # A look raises receive counts, and CloudWatch leaves out what was received thrice.
            ages.append((self._now() - self._census.oldest_at).total_seconds())
        age = max((each for each in ages if each is not None), default=None)
        unknown = "" if age is not None else self._ages_unknown
        return replace(status, oldest_age_seconds=age, age_unknown=unknown)

    def _ask_behind(self, dead: QueueState) -> None:
        for name, task in list(self._behind.items()):
            if task.done():
                task.result()
                del self._behind[name]
        now = self._clock()
        if self._ages_at is None or now - self._ages_at >= AGES_SECONDS:
            self._ages_at = now
            self._behind["ages"] = asyncio.create_task(self._ask_ages())
        if self._reasons and "look" not in self._behind and self._look_is_due(dead, now):
            self._looked_at = now
            self._behind["look"] = asyncio.create_task(self._look(dead))

    async def _ask_ages(self) -> None:
        names = [each.url.rsplit("/", 1)[-1] for each in self._queues]
        try:
            self._ages = await self._cloudwatch.oldest_ages(names, self._now())
            self._ages_unknown = "CloudWatch tells nothing of the last quarter of an hour"
        except AWSError as error:
            self._ages = [None, None]
            self._ages_unknown = str(error)

    def _look_is_due(self, dead: QueueState, now: float) -> bool:
        if self._looked_at is None:
            return True
        since = now - self._looked_at
        # What is in flight is looked at by somebody else, whom a look would disturb.
        changed = depth(dead) != self._census.known and not dead.in_flight
        return since >= (LOOK_AGAIN_SECONDS if changed else LOOK_ANYWAY_SECONDS)

    async def _look(self, dead: QueueState) -> None:
        try:
            self._census = await self._counted(dead)
        except AWSError as error:
            self._census = Census(unknown=str(error), known=depth(dead))

    async def _counted(self, dead: QueueState) -> Census:
        known = depth(dead)
        if dead.max_receive_count is not None:
            return Census(known=known, unknown=_REDRIVEN)
        counts: Counter[str] = Counter()
        sent, expiring = [], []
        if dead.visible:
            walking = walk(
                self._queues[1],
                now=self._now,
                look_seconds=self._look_seconds,
                polls=_LOOK_POLLS,
                retry_seconds=0,  # a sample is enough, and the next one comes soon
            )
            most = min(dead.visible, LOOK_MOST)
            # Left between two letters and never cancelled, it shows again all that it hid.
            ends_at = self._clock() + LOOK_LONGEST_SECONDS
            async with aclosing(walking) as letters:
                async for letter in letters:
                    counts[letter.reason] += 1
                    sent.append(letter.dead_at)
                    expiring.append(letter.expires_at)
                    if counts.total() >= most or self._clock() >= ends_at or self._closing:
                        break
        if known and not counts:
            return Census(known=known, unknown=_HELD)
        return Census(
            counts=dict(counts.most_common()),
            seen=counts.total(),
            known=known,
            unknown="",
            looked_at=self._now(),
            oldest_at=min(sent, default=None),
            expires_at=min(expiring, default=None),
        )
