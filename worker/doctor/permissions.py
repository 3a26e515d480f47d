"""What we may do, by calls that cannot do anything.

AWS looks at permissions before it looks for what is wrong with a request that is well formed: to be
told what is wrong means to be let in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from worker.delivery import Delivery
from worker.doctor.finding import Finding, failed, passed, unanswered, unknown
from worker.doctor.queues import DEAD_LETTERS, SOURCE
from worker.doctor.tables import ACCEPTANCES, POLICIES, POLICY_KEYS, USER_KEYS
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnavailableError,
    LeaseLostError,
)
from worker.queue import Queue
from worker.repository import AUPRepository
from worker.repository.inspection import PROBE, try_insert, try_read

_BY_WRITE_API: Final = {"batch": "dynamodb:PartiQLInsert", "put": "dynamodb:PutItem"}


async def on_source(queue: Queue) -> list[Finding]:
    """Try what the worker does with the queue of acceptances, on a message that is none."""
    now = datetime.now(UTC)
    none = Delivery(
        message_id=PROBE, receipt_handle=PROBE, body="", sent_at=now, first_received_at=now
    )
    attempts: dict[str, Awaitable[Any]] = {
        # None of them: SQS hands out one at least, and refuses this. A server that does not has
        # handed it back with that.
        "sqs:ReceiveMessage": queue.receive(0, wait_seconds=0, visibility_timeout_seconds=0),
        "sqs:DeleteMessage": _one(queue.delete([none])),
        "sqs:ChangeMessageVisibility": _one(queue.change_visibility([(none, 0)])),
    }
    return await _probed(SOURCE, attempts)


async def on_dead_letters(queue: Queue) -> list[Finding]:
    """Try to send nothing to the dead-letter queue."""
    return await _probed(DEAD_LETTERS, {"sqs:SendMessage": queue.send([])})


async def on_policies(repository: AUPRepository) -> list[Finding]:
    """Try to read a policy that nobody published."""
    return [await _reads(repository, POLICIES, repository.table_name, POLICY_KEYS)]


async def on_acceptances(repository: AUPRepository) -> list[Finding]:
    """Try to read what nobody accepted, and a write that cannot succeed."""
    name, write = repository.user_table_name, _BY_WRITE_API[repository.aws_settings.write_api]
    read, written = await asyncio.gather(
        _reads(repository, ACCEPTANCES, name, USER_KEYS),
        _probed(ACCEPTANCES, {write: try_insert(repository, name)}),
    )
    return [read, *written]


def not_tried(target: str) -> Finding:
    """Say that there is nothing to try anything on."""
    return unknown(f"{target}: permissions", "not tried: it cannot be asked", "mend that first")


async def _reads(
    repository: AUPRepository, target: str, name: str, keys: tuple[str, str]
) -> Finding:
    action = "dynamodb:GetItem"
    try:
        await try_read(repository, name, keys)
    except AWSRejectedError as error:
        remedy = f"make the table anew, keyed by {' and '.join(keys)}"
        return failed(_check(target, action), str(error), remedy)
    except AWSError as error:
        return _refused(target, action, error)
    return passed(_check(target, action), f"{action} is not refused")


async def _one(entries: Awaitable[Sequence[AWSError | None]]) -> None:
    (error,) = await entries
    if error is not None:
        raise error


async def _probed(target: str, attempts: Mapping[str, Awaitable[Any]]) -> list[Finding]:
    async def probed(action: str, attempt: Awaitable[Any]) -> Finding:
        try:
            await attempt
        except (AWSRejectedError, LeaseLostError):
            pass
        except AWSError as error:
            return _refused(target, action, error)
        return passed(_check(target, action), f"{action} is not refused")

    return await asyncio.gather(*(probed(*each) for each in attempts.items()))


def _check(target: str, action: str) -> str:
    return f"{target}: {action.partition(':')[2]}"


def _refused(target: str, action: str, error: AWSError) -> Finding:
    if isinstance(error, AWSUnavailableError) and action == _BY_WRITE_API["batch"]:
        remedy = "try again; a server without PartiQL needs AUP_WRITE_API=put"
        return replace(unanswered(_check(target, action), error, remedy=""), remedy=remedy)
    denied = isinstance(error, AWSDeniedError)
    remedy = f"allow {action} on the {target}" if denied else "see above"
    return unanswered(_check(target, action), error, remedy=remedy)
