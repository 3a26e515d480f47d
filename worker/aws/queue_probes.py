"""Probes of the permissions for a queue."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from worker.aws.access import Operation, Probe
from worker.aws.sqs import MessageQueue, queue_name
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSRejectedError, LeaseLostError

_PROBE: Final = "aup-worker-probe"


def source_probes(queue: MessageQueue) -> list[Probe]:
    """Return probes that delete and change the visibility of a message that does not exist."""
    epoch = datetime.fromtimestamp(0, tz=UTC)
    missing = ReceivedMessage(_PROBE, _PROBE, "", sent_at=epoch, first_received_at=epoch)

    async def delete() -> None:
        _raise_first(await queue.delete([missing]))

    async def change_visibility() -> None:
        _raise_first(await queue.change_visibility([(missing, 0)]))

    target = f"queue {queue_name(queue.url)}"
    return [
        Probe(Operation.DELETE, "sqs:DeleteMessage", target, delete),
        Probe(Operation.VISIBILITY, "sqs:ChangeMessageVisibility", target, change_visibility),
    ]


def dead_letter_probes(queue: MessageQueue) -> list[Probe]:
    """Return a probe that sends a batch without entries."""
    target = f"queue {queue_name(queue.url)}"
    return [
        Probe(Operation.DEAD_LETTER, "sqs:SendMessage", target, lambda: queue.send([])),
    ]


def _raise_first(results: Sequence[AWSError | None]) -> None:
    for error in results:
        # Rejected for its content, so the call is permitted.
        if error is not None and not isinstance(error, AWSRejectedError | LeaseLostError):
            raise error
