"""Checks with AWS before the first poll: those of `doctor` that decide whether the service works.

A result that prevents the start is an error. Any other failure or warning is logged: `doctor`
reports it with the same status, state and remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from worker.aws.error_codes import GRANT_ADVICE
from worker.aws.sqs import Queue, dead_letter_probes, source_probes
from worker.errors import AWSDeniedError, SettingsError
from worker.operations.doctor import queues
from worker.operations.doctor.permissions import Attempt, attempt, result_of
from worker.operations.doctor.result import CheckResult, CheckStatus
from worker.repository import AUPRepository
from worker.runtime.concurrent_calls import run_both
from worker.settings import Settings

_log: Final = structlog.get_logger()


async def check(
    settings: Settings, source: Queue, dead_letters: Queue, repository: AUPRepository
) -> Settings:
    """Check queues, tables and permissions.

    Returns:
        The settings, with fewer attempts if SQS would move a message before the last one.

    Raises:
        SettingsError: queues or tables do not fit the settings; one line for each problem.
        AWSDeniedError: permissions are missing; the error names all of them.
        AWSError: a call to a queue or table failed.
    """
    # All operations except receive, which the first poll tries.
    probes = *source_probes(source), *dead_letter_probes(dead_letters), *repository.probes()
    states, attempts = await run_both(
        run_both(source.state(), dead_letters.state()), attempt(probes)
    )
    results = queues.at_start(*states, settings)
    _raise_denials(attempts)
    for probe, error in attempts:
        result = result_of(probe, error)
        if error and result.status is not CheckStatus.PASS and not result.prevents_start:
            raise error  # not about the settings: the same call may succeed later
        results.append(result)
    problems = [str(each) for each in results if each.prevents_start]
    if problems:
        raise SettingsError(problems)
    _log_results(results)
    allowed = queues.attempts_before_redrive(states[0], settings)
    return settings.model_copy(update={"max_attempts": allowed})


def _raise_denials(attempts: Sequence[Attempt]) -> None:
    """Raise one error that names all missing permissions."""
    denied = [(probe, error) for probe, error in attempts if isinstance(error, AWSDeniedError)]
    for _, error in denied:
        if GRANT_ADVICE not in str(error):
            raise error  # credentials, a clock or a KMS key: the error has its own advice
    if denied:
        actions = ", ".join(f"{probe.action} on {probe.target}" for probe, _ in denied)
        first = str(denied[0][1]).partition(GRANT_ADVICE)[0]
        raise AWSDeniedError(f"missing permissions: grant {actions} ({first})")


def _log_results(results: Sequence[CheckResult]) -> None:
    for each in results:
        if each.status is CheckStatus.FAIL:
            _log.error("check failed", check=each.check, found=each.found, remedy=each.remedy)
        elif each.status is CheckStatus.WARN:
            _log.warning("check warning", check=each.check, found=each.found, remedy=each.remedy)
