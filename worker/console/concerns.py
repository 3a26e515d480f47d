"""What an operator should look at, most urgent first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from worker.console.status_feed import Snapshot
from worker.errors import AWSDeniedError
from worker.operations.status.observer import QueueStatus, Status, WorkerStatus
from worker.runtime.quantities import counted, duration

Kind = Literal["fail", "warn"]
# The default of AgeSeconds in infra/alarms.yaml.
OLD_SECONDS: Final = 900
_EXPIRES_SOON_SECONDS: Final = 86_400
# Programs other than this worker write reasons of their own.
_REASONS_MAX: Final = 7


@dataclass(frozen=True, slots=True)
class Concern:
    """One thing to look at.

    Attributes:
        kind: `fail` if messages may get lost or nothing is recorded, otherwise `warn`.
        text: What is wrong, in one sentence.
        action: Text of the link to where it can be remedied.
        path: Where that is.
    """

    kind: Kind
    text: str
    action: str = ""
    path: str = ""


def concerns(snapshot: Snapshot) -> list[Concern]:
    """Return what is wrong; an empty list if nothing is."""
    found = [*_of_observation(snapshot)]
    if snapshot.status is not None:
        found += _of_workers(snapshot.status.workers)
        found += _of_queue(snapshot.status.queue)
        found += _of_dead_letters(snapshot.status)
    return sorted(found, key=lambda each: each.kind)


def _of_observation(snapshot: Snapshot) -> Iterator[Concern]:
    if isinstance(snapshot.error, AWSDeniedError):
        text = f"The role of this console may not read the queues. {snapshot.error}"
        yield Concern("warn", text, "Diagnostics", "/diagnostics")
    elif snapshot.error is not None:
        text = f"The queues cannot be read: {snapshot.error}"
        yield Concern("fail", text, "Diagnostics", "/diagnostics")


def _of_workers(workers: Sequence[WorkerStatus]) -> Iterator[Concern]:
    for each in workers:
        sample = each.sample
        if sample.problem:
            yield Concern("fail", f"Worker {sample.address}: {sample.problem}.")
        elif not sample.ready:
            reasons = "; ".join(sample.reasons) or "no reason reported"
            yield Concern("fail", f"Worker {sample.address} is not ready: {reasons}.")


def _of_queue(queue: QueueStatus) -> Iterator[Concern]:
    age = queue.oldest_age_seconds
    if age is not None and age > OLD_SECONDS:
        text = f"The oldest message in the queue has been waiting for {duration(age)}."
        yield Concern("warn", text, "Diagnostics", "/diagnostics")


def _of_dead_letters(status: Status) -> Iterator[Concern]:
    depth, counts = status.dead_letters.depth, status.reason_counts
    if not depth:
        return
    if counts.expires_at is not None:
        left = (counts.expires_at - status.at).total_seconds()
        if left < _EXPIRES_SOON_SECONDS:
            text = (
                f"SQS deletes the first dead letter in {duration(max(0, left))}: "
                "replay or export it."
            )
            yield Concern("fail", text, "Dead letters", "/dead-letters")
    named = [f"{count:,} {name}" for name, count in (counts.counts or {}).items()]
    if len(named) > _REASONS_MAX:
        named[_REASONS_MAX:] = [f"and {counted(len(named) - _REASONS_MAX, 'other reason')}"]
    reasons = ", ".join(named)
    waiting = f"{counted(depth, 'dead letter')} waiting for a decision"
    text = f"{waiting}: {reasons}." if reasons else f"{waiting}."
    yield Concern("warn", text, "Dead letters", "/dead-letters")
