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
from worker.operations.doctor.clock import clock
from worker.operations.doctor.process_manager import stop_timeout
from worker.operations.doctor.relations import relations
from worker.operations.doctor.responses import Responses
from worker.operations.doctor.result import CheckResult, CheckStatus, failed, from_error
from worker.repository import AUPRepository
from worker.repository.inspection import has_recovery, table_state
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

Groups = dict[str, list[CheckResult]]
FoundQueue = tuple[Queue, QueueState] | AWSError


async def run_checks(
    settings: Settings, *, unit: str | None = None, session: aioboto3.Session | None = None
) -> Groups:
    """Check account, queues, tables, permissions and settings; change nothing.

    Args:
        settings: settings of the service.
        unit: systemd unit that runs the service.
        session: AWS session; a new one from the environment by default.

    Returns:
        Results by subject.

    Raises:
        SettingsError: region or profile are missing or invalid.
    """
    session = session or new_session()
    responses = Responses()
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
    settings: Settings, session: aioboto3.Session, responses: Responses, *, called: bool
) -> list[CheckResult]:
    aws = settings.aws
    results = [account.region(aws, session.region_name)]
    for service, url in (("SQS", aws.sqs_endpoint_url), ("DynamoDB", aws.dynamodb_endpoint_url)):
        responded = service.lower() in responses.services if called else None
        results.append(account.endpoint(service, url, responded=responded))
    return [*results, clock(responses.offset_seconds(), settings.clock_skew_seconds)]


async def _resources(settings: Settings, session: aioboto3.Session) -> Groups:
    async with (
        open_finder(settings, session=session) as find,
        AUPRepository(settings.aws, session) as repository,
    ):
        (
            (queue_results, queue_permissions),
            (table_results, table_permissions),
        ) = await asyncio.gather(_queues(settings, find), _tables(repository))
    return {
        "queues": queue_results,
        "tables": table_results,
        "permissions": queue_permissions + table_permissions,
    }


async def _queues(
    settings: Settings, find: Callable[[str], Awaitable[Queue]]
) -> tuple[list[CheckResult], list[CheckResult]]:
    async def describe(name: str) -> FoundQueue:
        try:
            queue = await find(name)
            return queue, await queue.state()
        except AWSError as error:
            return error

    source, dead_letters = await asyncio.gather(
        describe(settings.queue), describe(settings.dead_letter_queue)
    )
    states = [None if isinstance(each, AWSError) else each[1] for each in (source, dead_letters)]
    if isinstance(source, AWSError):
        results = [_not_found(queues.SOURCE, "AUP_QUEUE", source)]
    else:
        results = queues.of_source(source[1], states[1], settings)
    if isinstance(dead_letters, AWSError):
        results.append(_not_found(queues.DEAD_LETTERS, "AUP_DEAD_LETTER_QUEUE", dead_letters))
    else:
        results += queues.of_dead_letters(dead_letters[1], states[0])
    permitted = await asyncio.gather(
        _permitted(source, queues.SOURCE, permissions.on_source),
        _permitted(dead_letters, queues.DEAD_LETTERS, permissions.on_dead_letters),
    )
    return results, [*permitted[0], *permitted[1]]


async def _permitted(
    found: FoundQueue, subject: str, check: Callable[[Queue], Awaitable[list[CheckResult]]]
) -> list[CheckResult]:
    if isinstance(found, AWSError):
        return [permissions.not_tried(subject)]
    return await check(found[0])


def _not_found(check: str, variable: str, error: AWSError) -> CheckResult:
    if isinstance(error, AWSNotFoundError):
        found = str(error).partition(": create it")[0]
        return failed(
            check, found, f"create it (`aup-worker init`), or set {variable} to another queue"
        )
    remedy = "allow sqs:GetQueueAttributes (and sqs:GetQueueUrl unless it is set by URL or ARN)"
    return from_error(check, error, remedy=remedy)


async def _tables(repository: AUPRepository) -> tuple[list[CheckResult], list[CheckResult]]:
    async def describe(
        check: str,
        variable: str,
        name: str,
        keys: tuple[str, str],
        probes: Callable[[AUPRepository], Awaitable[list[CheckResult]]],
    ) -> tuple[list[CheckResult], list[CheckResult]]:
        try:
            results = tables.of_table(check, await table_state(repository, name), keys)
        except (AWSNotFoundError, AWSUnavailableError) as error:
            return [tables.not_described(check, variable, error)], [permissions.not_tried(check)]
        except AWSError as error:
            results = [tables.not_described(check, variable, error)]
        recoverable, permitted = await asyncio.gather(
            _recovery(repository, check, name), probes(repository)
        )
        return [*results, recoverable], permitted

    policies, acceptances = await asyncio.gather(
        describe(
            tables.POLICIES,
            "AUP_TABLE_NAME",
            repository.table_name,
            tables.POLICY_KEYS,
            permissions.on_policies,
        ),
        describe(
            tables.ACCEPTANCES,
            "AUP_USER_TABLE_NAME",
            repository.user_table_name,
            tables.USER_KEYS,
            permissions.on_acceptances,
        ),
    )
    return policies[0] + acceptances[0], policies[1] + acceptances[1]


async def _recovery(repository: AUPRepository, check: str, name: str) -> CheckResult:
    try:
        return tables.recovery(check, await has_recovery(repository, name))
    except AWSError as error:
        return tables.recovery(check, error)
