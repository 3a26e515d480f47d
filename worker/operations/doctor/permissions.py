"""Checks of permissions, by calls that change nothing.

AWS checks permissions before it looks for what is wrong with a well-formed request: an error about
the request itself means that the call is permitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from worker.aws.access import Operation, Probe
from worker.aws.sqs import Queue, dead_letter_probes, queue_name, source_probes
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnsupportedError,
    LeaseLostError,
)
from worker.operations.doctor.queues import DEAD_LETTERS, SOURCE
from worker.operations.doctor.result import CheckResult, failed, from_error, passed, unknown
from worker.operations.doctor.tables import ACCEPTANCES, POLICIES, TABLES
from worker.repository import AUPRepository
from worker.repository.writes import WITHOUT_PARTIQL

_SUBJECTS: Final = {
    Operation.RECEIVE: SOURCE,
    Operation.DELETE: SOURCE,
    Operation.VISIBILITY: SOURCE,
    Operation.DEAD_LETTER: DEAD_LETTERS,
    Operation.READ_POLICY: POLICIES,
    Operation.LOOK_UP: ACCEPTANCES,
    Operation.WRITE: ACCEPTANCES,
}
_READS: Final = {Operation.READ_POLICY, Operation.LOOK_UP}
# A probe and the error that it ended with.
Attempt = tuple[Probe, AWSError | None]


async def attempt(probes: Sequence[Probe]) -> list[Attempt]:
    """Attempt all probes concurrently."""
    errors = await asyncio.gather(*(probe.error() for probe in probes))
    return list(zip(probes, errors, strict=True))


def result_of(probe: Probe, error: AWSError | None) -> CheckResult:
    """Return the result for a probe and the error that it ended with."""
    subject = _SUBJECTS[probe.operation]
    check = f"{subject}: {probe.action.partition(':')[2]}"
    if isinstance(error, AWSRejectedError) and probe.operation in _READS:
        variable, keys = TABLES[subject]
        found = f"{probe.target} has other keys: {error}"
        remedy = f"create the table with the keys {keys}, or set {variable} to another"
        return failed(check, found, remedy, prevents_start=True)
    if error is None or isinstance(error, AWSRejectedError | LeaseLostError):
        return passed(check, f"{probe.action} is allowed")
    if WITHOUT_PARTIQL in str(error):
        found = str(error).removesuffix(f"; {WITHOUT_PARTIQL}")
        if isinstance(error, AWSUnsupportedError):
            return failed(check, found, WITHOUT_PARTIQL, prevents_start=True)
        return unknown(check, found, WITHOUT_PARTIQL)
    denied = isinstance(error, AWSDeniedError)
    remedy = f"allow {probe.action} on {probe.target}" if denied else "see the results above"
    return from_error(check, error, remedy=remedy)


async def on_source(queue: Queue) -> list[CheckResult]:
    """Try to receive, delete and change the visibility of a message that does not exist."""
    # SQS rejects a receive of zero messages. A server that does not makes a message that it
    # returns visible again at once.
    receive = Probe(
        Operation.RECEIVE,
        "sqs:ReceiveMessage",
        f"queue {queue_name(queue.url)}",
        lambda: queue.receive(0, wait_seconds=0, visibility_timeout_seconds=0),
    )
    return await _results([receive, *source_probes(queue)])


async def on_dead_letters(queue: Queue) -> list[CheckResult]:
    """Try to send an empty batch to the dead-letter queue."""
    return await _results(dead_letter_probes(queue))


async def on_table(repository: AUPRepository, table: str) -> list[CheckResult]:
    """Try to read an item that does not exist, and a write that cannot succeed.

    Args:
        repository: repository of both tables.
        table: `POLICIES`, which the service only reads, or `ACCEPTANCES`.
    """
    return await _results(
        [each for each in repository.probes() if _SUBJECTS[each.operation] == table]
    )


def not_tried(subject: str) -> CheckResult:
    """Return the result for a queue or table that could not be found or read."""
    found = f"not checked: the {subject} check did not pass"
    return unknown(f"{subject}: permissions", found, "fix it first")


async def _results(probes: Sequence[Probe]) -> list[CheckResult]:
    return [result_of(*each) for each in await attempt(probes)]
