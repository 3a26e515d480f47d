"""What is checked with AWS before the first poll."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from worker.aws.access import Operation, Probe
from worker.aws.calls import GRANT_ADVICE
from worker.aws.sqs import Queue, QueueState, dead_letter_probes, source_probes
from worker.domain.dead_letter import ATTRIBUTE_RESERVED_BYTES
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnsupportedError,
    LeaseLostError,
    SettingsError,
)
from worker.repository import AUPRepository
from worker.settings import Settings

_log: Final = structlog.get_logger()
_READS: Final = (Operation.READ_POLICY, Operation.LOOK_UP)


async def check(
    settings: Settings, source: Queue, dead_letters: Queue, repository: AUPRepository
) -> Settings:
    """Check queues and tables against the settings.

    Returns:
        The settings, with fewer attempts where the queue's redrive policy would come first.

    Raises:
        SettingsError: they name something that cannot work; one line for each.
        AWSDeniedError: permissions are missing; it names all of them.
        AWSError: a queue or table cannot be asked.
    """
    states = [await source.state(), await dead_letters.state()]
    problems = _problems(*states)
    problems += await _access_problems(source, dead_letters, repository)
    if problems:
        raise SettingsError(problems)
    return _fitted(settings, *states)


async def _access_problems(
    source: Queue, dead_letters: Queue, repository: AUPRepository
) -> list[str]:
    """Try each operation before the first message; the first poll tries receiving itself."""
    probes = [*source_probes(source), *dead_letter_probes(dead_letters), *repository.probes()]
    errors = await asyncio.gather(*(probe.error() for probe in probes))
    problems: list[str] = []
    miskeyed: list[AWSError] = []
    others: list[AWSError] = []
    for probe, error in zip(probes, errors, strict=True):
        if isinstance(error, AWSUnsupportedError) and probe.operation is Operation.WRITE:
            problems.append(f"AUP_WRITE_API=batch: {error}")
        elif isinstance(error, AWSRejectedError) and probe.operation in _READS:
            miskeyed.append(error)
        elif error is not None and not isinstance(error, AWSRejectedError | LeaseLostError):
            others.append(error)
    _raise_denials(probes, errors)
    if others:
        raise others[0]
    if miskeyed:
        problems.append(
            f"AUP_TABLE_NAME={repository.table_name}, AUP_USER_TABLE_NAME="
            f"{repository.user_table_name}: keys must be policy_id, version and user_id, "
            f"policy_version, all strings ({miskeyed[0]})"
        )
    return list(dict.fromkeys(problems))


def _raise_denials(probes: Sequence[Probe], errors: Sequence[AWSError | None]) -> None:
    denied = [
        (probe, error)
        for probe, error in zip(probes, errors, strict=True)
        if isinstance(error, AWSDeniedError)
    ]
    for _, error in denied:
        if GRANT_ADVICE not in str(error):
            raise error  # keys, a clock or a KMS key, of which the error says what to do
    if denied:
        actions = ", ".join(f"{probe.action} on {probe.target}" for probe, _ in denied)
        first = str(denied[0][1]).partition(GRANT_ADVICE)[0]
        raise AWSDeniedError(f"missing permissions: grant {actions} ({first})")


def _problems(source: QueueState, dead_letters: QueueState) -> list[str]:
    problems = []
    for name, state in (("AUP_QUEUE", source), ("AUP_DEAD_LETTER_QUEUE", dead_letters)):
        if state.fifo:
            problems.append(f"{name}={state.url}: must be a standard queue, not FIFO")
    if source.arn == dead_letters.arn:
        problems.append(f"AUP_DEAD_LETTER_QUEUE={dead_letters.url}: must differ from AUP_QUEUE")
    return problems


def _fitted(settings: Settings, source: QueueState, dead_letters: QueueState) -> Settings:
    if dead_letters.retention_seconds <= source.retention_seconds:
        _log.warning(
            "dead letters that SQS itself moves expire too early: "
            "give the dead-letter queue a longer retention than its source",
            source_seconds=source.retention_seconds,
            dead_letter_seconds=dead_letters.retention_seconds,
        )
    needed = min(source.message_max_bytes + ATTRIBUTE_RESERVED_BYTES, MESSAGE_MAX_BYTES)
    if dead_letters.message_max_bytes < needed:
        _log.warning(
            "large dead letters lose their reason or cannot be sent: "
            "raise MaximumMessageSize of the dead-letter queue",
            source_bytes=source.message_max_bytes,
            dead_letter_bytes=dead_letters.message_max_bytes,
            needed_bytes=needed,
        )
    if source.max_receive_count is None:
        _log.warning("the queue has no redrive policy: the safety net is missing", queue=source.url)
        return settings
    # One receive fewer than SQS allows: after the last one it would move the message unexplained.
    last = max(1, source.max_receive_count - 1)
    if settings.max_attempts <= last:
        return settings
    _log.warning(
        "AUP_MAX_ATTEMPTS lowered below the queue's maxReceiveCount",
        max_attempts=last,
        max_receive_count=source.max_receive_count,
    )
    return settings.model_copy(update={"max_attempts": last})
