"""Status of the queues and workers, observed repeatedly at a bounded cost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue, queue_name
from worker.aws.sqs_responses import QueueState
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError
from worker.operations.dead_letters.scan import VISIBILITY_TIMEOUT_SECONDS, Scan
from worker.operations.status.scrape import Sample, scrape_all
from worker.runtime.clock import utc_now

# GetMetricData is billed per metric, and SQS updates its metrics no more often than this.
AGES_INTERVAL_SECONDS: Final = 60.0
# A scan of the dead letters is billed per receive, and hides them while it runs.
SCAN_AFTER_CHANGE_SECONDS: Final = 15.0
SCAN_INTERVAL_SECONDS: Final = 300.0
SCAN_MAX_DEAD_LETTERS: Final = 1000
SCAN_MAX_SECONDS: Final = 5.0
_SCAN_POLLS: Final = 4
_PENDING: Final = "not requested yet"
_DISABLED: Final = "not scanned (--no-reasons)"
_IN_FLIGHT: Final = "all of them are in flight elsewhere"
REDRIVEN: Final = (
    "not scanned: the dead-letter queue has its own redrive policy, which counts each receive"
)
# `doctor` reports the other attributes.
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
class ReasonCounts:
    """Counts of dead letters by reason, from one scan.

    Attributes:
        counts: Dead letters by reason; None if they could not be scanned.
        seen: Dead letters that the scan returned.
        known: Approximate number of dead letters that SQS reported.
        unknown: Why the dead letters could not be scanned; empty if they were.
        scanned_at: Time of the scan.
        oldest_at: When the oldest one seen entered the queue.
        expires_at: When SQS deletes the first of those seen.
    """

    counts: dict[str, int] | None = None
    seen: int = 0
    known: int = 0
    unknown: str = _PENDING
    scanned_at: datetime | None = None
    oldest_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def complete(self) -> bool:
        """Whether the scan returned as many dead letters as SQS reported."""
        return self.counts is not None and self.seen >= self.known


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Status of one queue.

    Attributes:
        state: Attributes reported by SQS.
        net_per_second: Rate of arrivals minus departures since the previous status; None for the
            first one.
        oldest_age_seconds: Age of the oldest message; None if unknown.
        age_unknown: Why the age is unknown; empty if it is known or the queue is empty.
    """

    state: QueueState
    net_per_second: float | None = None
    oldest_age_seconds: float | None = None
    age_unknown: str = ""

    @property
    def depth(self) -> int:
        """Number of messages in the queue, visible or not."""
        return self.state.depth

    def report(self) -> dict[str, Any]:
        """Return the status for JSON."""
        return {
            **{name: getattr(self.state, name) for name in _REPORTED},
            "oldest_age_seconds": _rounded(self.oldest_age_seconds),
            "oldest_age_unknown": self.age_unknown,
            "net_per_second": _rounded(self.net_per_second),
        }


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """Status of one worker.

    Attributes:
        sample: Metrics and readiness of the worker.
        rates: Messages settled per second, by outcome; None without two samples.
    """

    sample: Sample
    rates: dict[OutcomeKind, float] | None = None

    def report(self) -> dict[str, Any]:
        """Return the status for JSON."""
        sample, rates = self.sample, self.rates or {}
        return {
            "worker": sample.address,
            "answers": not sample.problem,
            "problem": sample.problem,
            "version": sample.version,
            "ready": sample.ready,
            "not_ready": list(sample.reasons),
            "held": None if sample.problem else sample.held,
            "recorded_per_second": _rounded(rates.get(OutcomeKind.RECORDED)),
            "duplicates_per_second": _rounded(rates.get(OutcomeKind.DUPLICATE)),
            "dead_lettered_per_second": _rounded(rates.get(OutcomeKind.DEAD_LETTERED)),
            "returned_per_second": _rounded(rates.get(OutcomeKind.RETURNED)),
        }


@dataclass(frozen=True, slots=True)
class Status:
    """Status of both queues and of all workers."""

    at: datetime
    queue: QueueStatus
    dead_letters: QueueStatus
    reason_counts: ReasonCounts
    workers: tuple[WorkerStatus, ...] = ()

    @property
    def recorded_per_second(self) -> float | None:
        """Rate of records by all workers together; None if no worker's rate is known."""
        rates = [
            each.rates[OutcomeKind.RECORDED] for each in self.workers if each.rates is not None
        ]
        return sum(rates) if rates else None

    def report(self) -> dict[str, Any]:
        """Return the status for JSON."""
        reason_counts = self.reason_counts
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "queue": self.queue.report(),
            "dead_letters": {
                **self.dead_letters.report(),
                "reasons": reason_counts.counts,
                "reasons_seen": reason_counts.seen,
                "reasons_whole": reason_counts.complete,
                "reasons_unknown": reason_counts.unknown,
                "reasons_at": _isoformat(reason_counts.scanned_at),
                "first_expires_at": _isoformat(reason_counts.expires_at),
            },
            "workers": [each.report() for each in self.workers],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _isoformat(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")


class Observer:
    """Observe queues and workers as often as requested.

    Each `observe` requests the state of queues and workers. In the background, CloudWatch is
    requested once a minute, and the dead letters are scanned when their number has changed.

    Args:
        queue: The source queue.
        dead_letters: The dead-letter queue.
        cloudwatch: Source of the age of the oldest messages.
        workers: Health endpoints of the workers, HOST:PORT.
        visibility_timeout_seconds: How long a dead letter stays hidden if a scan is killed; None
            to never scan the dead letters.
        now: Returns the current time, timezone-aware.
        clock: Returns monotonic time in seconds.
    """

    def __init__(
        self,
        queue: Queue,
        dead_letters: Queue,
        cloudwatch: CloudWatch,
        *,
        workers: Sequence[str] = (),
        visibility_timeout_seconds: int | None = VISIBILITY_TIMEOUT_SECONDS,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queue, dead_letters
        self._cloudwatch = cloudwatch
        self._workers = list(workers)
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._now = now
        self._clock = clock
        self._before: Status | None = None
        self._observed_at = 0.0
        self._ages: list[float | None] = [None, None]
        self._ages_unknown = _PENDING
        self._reason_counts = ReasonCounts(
            unknown=_DISABLED if visibility_timeout_seconds is None else _PENDING
        )
        self._ages_at = self._scanned_at = float("-inf")
        self._background: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    async def observe(self, *, settle: bool = False, counted: ReasonCounts | None = None) -> Status:
        """Return the status, with the latest results of the background tasks.

        Args:
            settle: Wait for the background tasks to finish.
            counted: Counts of another scan, if this observer never scans.

        Raises:
            AWSError: The state of a queue cannot be read.
        """
        states_request = asyncio.gather(*(each.state() for each in self._queues))
        states, samples = await asyncio.gather(
            states_request, scrape_all(self._workers, self._clock)
        )
        self._start_background(states[1])
        if settle:
            # Cancellation must not reach a scan: `aclose` ends it in an orderly way.
            await asyncio.shield(asyncio.gather(*self._background.values()))
        if counted is not None:
            self._reason_counts = counted
        return self._status(states[0], states[1], samples)

    async def aclose(self) -> None:
        """End the background tasks and make all hidden dead letters visible again."""
        self._closing = True
        if "ages" in self._background:
            self._background["ages"].cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)

    def _status(self, source: QueueState, dead: QueueState, samples: list[Sample]) -> Status:
        before, now = self._before, self._clock()
        seconds, self._observed_at = now - self._observed_at, now
        rates: tuple[float | None, float | None] = None, None
        if before is not None and seconds > 0:
            net = source.depth - before.queue.depth, dead.depth - before.dead_letters.depth
            rates = net[0] / seconds, net[1] / seconds
        earlier = (
            {} if before is None else {each.sample.address: each.sample for each in before.workers}
        )
        self._before = Status(
            at=self._now(),
            queue=self._queue_status(0, source, rates[0]),
            dead_letters=self._queue_status(1, dead, rates[1]),
            reason_counts=self._reason_counts,
            workers=tuple(
                WorkerStatus(each, each.rates(earlier.get(each.address))) for each in samples
            ),
        )
        return self._before

    def _queue_status(self, index: int, state: QueueState, net: float | None) -> QueueStatus:
        if not state.depth:
            return QueueStatus(state, net)
        ages = [self._ages[index]]
        if index == 1 and self._reason_counts.complete and self._reason_counts.oldest_at:
            # Scans raise receive counts, and CloudWatch ignores messages received three times.
            ages.append((self._now() - self._reason_counts.oldest_at).total_seconds())
        age = max((each for each in ages if each is not None), default=None)
        return QueueStatus(state, net, age, self._ages_unknown if age is None else "")

    def _start_background(self, dead: QueueState) -> None:
        for name, task in list(self._background.items()):
            if task.done():
                task.result()
                del self._background[name]
        now = self._clock()
        if now - self._ages_at >= AGES_INTERVAL_SECONDS:
            self._ages_at = now
            self._background["ages"] = asyncio.create_task(self._request_ages())
        timeout = self._visibility_timeout_seconds
        if timeout is not None and "scan" not in self._background and self._is_due(dead, now):
            self._scanned_at = now
            self._background["scan"] = asyncio.create_task(self._scan(dead, timeout))

    async def _request_ages(self) -> None:
        names = [queue_name(each.url) for each in self._queues]
        try:
            self._ages = await self._cloudwatch.oldest_ages(names, self._now())
            self._ages_unknown = "CloudWatch has no data for the last 15 minutes"
        except AWSError as error:
            self._ages = [None, None]
            self._ages_unknown = str(error)

    def _is_due(self, dead: QueueState, now: float) -> bool:
        since = now - self._scanned_at
        # Messages in flight belong to another scan or replay, which this one would disturb.
        changed = dead.depth != self._reason_counts.known and not dead.in_flight
        return since >= (SCAN_AFTER_CHANGE_SECONDS if changed else SCAN_INTERVAL_SECONDS)

    async def _scan(self, dead: QueueState, visibility_timeout_seconds: int) -> None:
        try:
            self._reason_counts = await self._count_reasons(dead, visibility_timeout_seconds)
        except AWSError as error:
            self._reason_counts = ReasonCounts(unknown=str(error), known=dead.depth)

    async def _count_reasons(
        self, dead: QueueState, visibility_timeout_seconds: int
    ) -> ReasonCounts:
        known = dead.depth
        if dead.max_receive_count is not None:
            return ReasonCounts(known=known, unknown=REDRIVEN)
        counts: Counter[str] = Counter()
        dead_at, expires_at = [], []
        if dead.visible:
            scan = Scan(
                self._queues[1],
                now=self._now,
                visibility_timeout_seconds=visibility_timeout_seconds,
                polls=_SCAN_POLLS,
                retry_seconds=0,  # a sample is enough, and the next scan follows soon
            )
            limit = min(dead.visible, SCAN_MAX_DEAD_LETTERS)
            # Left between two dead letters and never cancelled, the scan makes all of them visible
            # again.
            ends_at = self._clock() + SCAN_MAX_SECONDS
            async with scan:
                async for each in scan:
                    counts[each.reason] += 1
                    dead_at.append(each.dead_at)
                    expires_at.append(each.expires_at)
                    if counts.total() >= limit or self._clock() >= ends_at or self._closing:
                        break
        if known and not counts:
            return ReasonCounts(known=known, unknown=_IN_FLIGHT)
        return ReasonCounts(
            counts=dict(counts.most_common()),
            seen=counts.total(),
            known=known,
            unknown="",
            scanned_at=self._now(),
            oldest_at=min(dead_at, default=None),
            expires_at=min(expires_at, default=None),
        )
