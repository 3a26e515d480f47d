"""All checks of `doctor`, by subject."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from worker.aws.client import new_session
from worker.aws.sqs import Queue, open_finder
from worker.aws.sqs_responses import QueueState
from worker.errors import AWSError, AWSNotFoundError, AWSUnavailableError
from worker.operations.doctor import account, permissions, queues, tables
from worker.operations.doctor.result import CheckResult, CheckStatus
from worker.operations.doctor.service_settings import relations, stop_timeout
from worker.repository import AUPRepository
from worker.repository.inspection import has_recovery, table_state
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

Groups = dict[str, list[CheckResult]]
Find = Callable[[str], Awaitable[Queue]]
# Results for queues or tables, and for the permissions that they need.
Results = tuple[list[CheckResult], list[CheckResult]]


class _CheckedRepository(AUPRepository):
    """Repository apart from that of the process, whose session and calls differ."""


async def run_checks(settings: Settings, unit: str | None) -> Groups:
    """Check account, queues, tables, permissions and settings; change nothing.

    Args:
        settings: settings of the service.
        unit: systemd unit that runs the service; None for the unit of this process.

    Returns:
        Results by subject.

    Raises:
        SettingsError: region or profile are missing or invalid.
    """
    session = new_session()
    responses = account.Responses()
    responses.listen(session)
    # The signed fast path calls no hooks, and its errors have less detail.
    settings = settings.model_copy(
        update={"aws": settings.aws.model_copy(update={"fast_calls": False})}
    )
    stop = asyncio.create_task(stop_timeout(settings, unit))
    try:
        caller = [await account.credentials(session, settings.aws)]
        resources: Groups = {}
        if caller[0].status is CheckStatus.PASS:
            caller.append(await account.identity(session, settings.aws))
        # Every other call would fail with the same credentials.
        if caller[-1].status is not CheckStatus.FAIL:
            resources = await _resources(settings, session)
        caller += _endpoints(settings, session, responses, called=bool(resources))
        return {"account": caller, **resources, "settings": [*relations(settings), await stop]}
    finally:
        stop.cancel()


def _endpoints(
    settings: Settings, session: aioboto3.Session, responses: account.Responses, *, called: bool
) -> list[CheckResult]:
    aws = settings.aws
    results = [account.region(aws, session.region_name)]
    for service, url in (("SQS", aws.sqs_endpoint_url), ("DynamoDB", aws.dynamodb_endpoint_url)):
        responded = service.lower() in responses.services if called else None
        results.append(account.endpoint(service, url, responded=responded))
    return [*results, account.clock(responses.offset_seconds(), settings.clock_skew_seconds)]


async def _resources(settings: Settings, session: aioboto3.Session) -> Groups:
    async with (
        open_finder(settings, session=session) as find,
        _CheckedRepository(settings.aws, session) as repository,
    ):
        of_queues, of_tables = await asyncio.gather(_queues(settings, find), _tables(repository))
    return {
        "queues": of_queues[0],
        "tables": of_tables[0],
        "permissions": of_queues[1] + of_tables[1],
    }


async def _queues(settings: Settings, find: Find) -> Results:
    source, dead_letters = await asyncio.gather(
        _queue(find, settings.queue, queues.SOURCE, permissions.on_source),
        _queue(find, settings.dead_letter_queue, queues.DEAD_LETTERS, permissions.on_dead_letters),
    )
    (results, state, permitted), (dead_results, dead_state, dead_permitted) = source, dead_letters
    if state is not None:
        results = queues.of_source(state, dead_state, settings)
    if dead_state is not None:
        dead_results = queues.of_dead_letters(dead_state, state)
    return results + dead_results, permitted + dead_permitted


async def _queue(
    find: Find, name: str, subject: str, check: Callable[[Queue], Awaitable[list[CheckResult]]]
) -> tuple[list[CheckResult], QueueState | None, list[CheckResult]]:
    """Return the state of a queue or the problem with it, and the results for its permissions."""
    try:
        queue = await find(name)
        state = await queue.state()
    except AWSError as error:
        return [queues.not_found(subject, error)], None, [permissions.not_tried(subject)]
    return [], state, await check(queue)


async def _tables(repository: AUPRepository) -> Results:
    policies, acceptances = await asyncio.gather(
        _table(repository, tables.POLICIES, repository.table_name),
        _table(repository, tables.ACCEPTANCES, repository.user_table_name),
    )
    return policies[0] + acceptances[0], policies[1] + acceptances[1]


async def _table(repository: AUPRepository, table: str, name: str) -> Results:
    try:
        results = tables.of_table(table, await table_state(repository, name))
    except AWSError as error:
        results = [tables.not_described(table, error)]
        if isinstance(error, AWSNotFoundError | AWSUnavailableError):
            return results, [permissions.not_tried(table)]
    recoverable, permitted = await asyncio.gather(
        _recovery(repository, table, name), permissions.on_table(repository, table)
    )
    return [*results, recoverable], permitted


async def _recovery(repository: AUPRepository, table: str, name: str) -> CheckResult:
    try:
        return tables.recovery(table, await has_recovery(repository, name))
    except AWSError as error:
        return tables.recovery(table, error)
