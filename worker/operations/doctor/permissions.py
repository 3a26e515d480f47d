"""Checks of permissions, by calls that change nothing.

AWS checks permissions before it looks for what is wrong with a well-formed request: an error about
the request itself means that the call is permitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from worker.aws.access import Operation, Probe
from worker.aws.sqs import Queue, dead_letter_probes, source_probes
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnsupportedError,
    LeaseLostError,
)
from worker.operations.doctor.queues import DEAD_LETTERS, SOURCE
from worker.operations.doctor.result import CheckResult, failed, from_error, passed, unknown
from worker.operations.doctor.tables import (
    ACCEPTANCES,
    POLICIES,
    POLICY_KEYS,
    USER_KEYS,
    key_names,
)
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
_KEYS: Final = {
    Operation.READ_POLICY: ("AUP_TABLE_NAME", POLICY_KEYS),
    Operation.LOOK_UP: ("AUP_USER_TABLE_NAME", USER_KEYS),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """A probe and the error that it ended with, or None."""

    probe: Probe
    error: AWSError | None

    @property
    def has_wrong_keys(self) -> bool:
        """Whether a read was rejected: the table has other keys."""
        return isinstance(self.error, AWSRejectedError) and self.probe.operation in _KEYS

    @property
    def needs_put(self) -> bool:
        """Whether the server may not support PartiQL inserts."""
        return WITHOUT_PARTIQL in str(self.error or "")

    def result(self) -> CheckResult:
        """Return the attempt as the result of a check."""
        probe, error = self.probe, self.error
        check = f"{_SUBJECTS[probe.operation]}: {probe.action.partition(':')[2]}"
        if error is not None and self.has_wrong_keys:
            variable, keys = _KEYS[probe.operation]
            return failed(
                check,
                f"{probe.target} has other keys: {error}",
                f"create the table with the keys {key_names(keys)}, or set {variable} to another",
                prevents_start=True,
            )
        if error is None or isinstance(error, AWSRejectedError | LeaseLostError):
            return passed(check, f"{probe.action} is allowed")
        if self.needs_put:
            found = str(error).removesuffix(f"; {WITHOUT_PARTIQL}")
            if isinstance(error, AWSUnsupportedError):
                return failed(check, found, WITHOUT_PARTIQL, prevents_start=True)
            return unknown(check, found, WITHOUT_PARTIQL)
        denied = isinstance(error, AWSDeniedError)
        remedy = f"allow {probe.action} on {probe.target}" if denied else "see the results above"
        return from_error(check, error, remedy=remedy)


async def attempt(probes: Sequence[Probe]) -> list[Attempt]:
    """Attempt all probes concurrently."""
    errors = await asyncio.gather(*(probe.error() for probe in probes))
    return [Attempt(probe, error) for probe, error in zip(probes, errors, strict=True)]


def at_start(source: Queue, dead_letters: Queue, repository: AUPRepository) -> list[Probe]:
    """Return probes of all operations except receive, which the first poll tries."""
    return [*source_probes(source), *dead_letter_probes(dead_letters), *repository.probes()]


async def on_source(queue: Queue) -> list[CheckResult]:
    """Try to receive, delete and change the visibility of a message that does not exist."""
    # SQS rejects a receive of zero messages. A server that does not makes a message that it
    # returns visible again at once.
    receive = Probe(
        Operation.RECEIVE,
        "sqs:ReceiveMessage",
        f"queue {queue.url.rpartition('/')[2]}",
        lambda: queue.receive(0, wait_seconds=0, visibility_timeout_seconds=0),
    )
    return await _results([receive, *source_probes(queue)])


async def on_dead_letters(queue: Queue) -> list[CheckResult]:
    """Try to send an empty batch to the dead-letter queue."""
    return await _results(dead_letter_probes(queue))


async def on_policies(repository: AUPRepository) -> list[CheckResult]:
    """Try to read a policy that does not exist."""
    return await _results(_of_table(repository, POLICIES))


async def on_acceptances(repository: AUPRepository) -> list[CheckResult]:
    """Try to read an acceptance that does not exist, and a write that cannot succeed."""
    return await _results(_of_table(repository, ACCEPTANCES))


def not_tried(subject: str) -> CheckResult:
    """Return the result for a queue or table that could not be found or read."""
    return unknown(
        f"{subject}: permissions", f"not checked: the {subject} check did not pass", "fix it first"
    )


def _of_table(repository: AUPRepository, subject: str) -> list[Probe]:
    return [each for each in repository.probes() if _SUBJECTS[each.operation] == subject]


async def _results(probes: Iterable[Probe]) -> list[CheckResult]:
    return [each.result() for each in await attempt(list(probes))]
