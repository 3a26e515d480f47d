"""What we may do, by calls that cannot do anything.

AWS looks at permissions before it looks for what is wrong with a request that is well formed: to be
told what is wrong means to be let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from worker.aws.access import Operation, Probe
from worker.aws.queue_probes import dead_letter_probes, source_probes
from worker.aws.sqs import Queue
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnsupportedError,
    LeaseLostError,
)
from worker.operations.doctor.queues import DEAD_LETTERS, SOURCE
from worker.operations.doctor.result import CheckResult, failed, passed, unanswered, unknown
from worker.operations.doctor.tables import ACCEPTANCES, POLICIES, POLICY_KEYS, USER_KEYS
from worker.repository import AUPRepository
from worker.repository.writes import WITHOUT_PARTIQL

_KEYS: Final = {Operation.READ_POLICY: POLICY_KEYS, Operation.LOOK_UP: USER_KEYS}


async def on_source(queue: Queue) -> list[CheckResult]:
    """Try what the worker does with the queue of acceptances, on a message that is none."""
    # None of them: SQS hands out one at least, and refuses this. A server that does not has
    # handed it back with that.
    receive = Probe(
        Operation.RECEIVE,
        "sqs:ReceiveMessage",
        SOURCE,
        lambda: queue.receive(0, wait_seconds=0, visibility_timeout_seconds=0),
    )
    return await _tried(SOURCE, [receive, *source_probes(queue)])


async def on_dead_letters(queue: Queue) -> list[CheckResult]:
    """Try to send nothing to the dead-letter queue."""
    return await _tried(DEAD_LETTERS, dead_letter_probes(queue))


async def on_policies(repository: AUPRepository) -> list[CheckResult]:
    """Try to read a policy that nobody published."""
    probes = [each for each in repository.probes() if each.operation is Operation.READ_POLICY]
    return await _tried(POLICIES, probes)


async def on_acceptances(repository: AUPRepository) -> list[CheckResult]:
    """Try to read what nobody accepted, and a write that cannot succeed."""
    probes = [each for each in repository.probes() if each.operation is not Operation.READ_POLICY]
    return await _tried(ACCEPTANCES, probes)


def not_tried(target: str) -> CheckResult:
    """Say that there is nothing to try anything on."""
    return unknown(f"{target}: permissions", "not tried: it cannot be asked", "mend that first")


async def _tried(target: str, probes: Sequence[Probe]) -> list[CheckResult]:
    errors = await asyncio.gather(*(probe.error() for probe in probes))
    return [_found(target, *each) for each in zip(probes, errors, strict=True)]


def _found(target: str, probe: Probe, error: AWSError | None) -> CheckResult:
    action = probe.action
    check = f"{target}: {action.partition(':')[2]}"
    keys = _KEYS.get(probe.operation)
    if isinstance(error, AWSRejectedError) and keys:
        return failed(check, str(error), f"make the table anew, keyed by {' and '.join(keys)}")
    if error is None or isinstance(error, AWSRejectedError | LeaseLostError):
        return passed(check, f"{action} is not refused")
    if WITHOUT_PARTIQL in str(error):
        verdict = failed if isinstance(error, AWSUnsupportedError) else unknown
        return verdict(check, str(error).removesuffix(f"; {WITHOUT_PARTIQL}"), WITHOUT_PARTIQL)
    denied = isinstance(error, AWSDeniedError)
    remedy = f"allow {action} on the {target}" if denied else "see above"
    return unanswered(check, error, remedy=remedy)
