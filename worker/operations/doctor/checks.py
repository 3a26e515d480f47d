"""All checks of the set-up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from worker.aws.client import new_session
from worker.aws.queue_lookup import open_finder
from worker.aws.queue_state import QueueState
from worker.aws.sqs import Queue
from worker.errors import AWSError, AWSNotFoundError, AWSUnavailableError
from worker.operations.doctor import account, permissions, queues, tables
from worker.operations.doctor.clock import clock
from worker.operations.doctor.process_manager import stop_timeout
from worker.operations.doctor.relations import relations
from worker.operations.doctor.responses import Responses
from worker.operations.doctor.result import CheckResult, Verdict, failed, unanswered
from worker.repository import AUPRepository
from worker.repository.inspection import has_recovery, table_state
from worker.settings import Settings

if TYPE_CHECKING:
    import aioboto3

Groups = dict[str, list[CheckResult]]
Found = tuple[Queue, QueueState] | AWSError


async def examine(
    settings: Settings, *, unit: str | None = None, session: aioboto3.Session | None = None
) -> Groups:
    """Check account, queues, tables, permissions and settings; nothing is changed.

    Args:
        settings: that the service would run with.
        unit: of systemd, that will run it.
        session: instead of one from the environment.

    Returns:
        Findings by what they are about.

    Raises:
        SettingsError: region or profile are missing or wrong.
    """
    session = session or new_session()
    answers = Responses()
    answers.listen(session)
    # The SDK's own way: the short one hears no hooks, and fails with fewer words.
    settings = settings.model_copy(
        update={"aws": settings.aws.model_copy(update={"fast_calls": False})}
    )
    stop = asyncio.create_task(stop_timeout(settings, unit))
    try:
        us = [await account.credentials(session, settings.aws)]
        asked: Groups = {}
        if us[0].verdict is Verdict.PASS:
            us.append(await account.identity(session, settings.aws))
        # Keys that are refused would only be refused once more by everything.
        if us[-1].verdict is not Verdict.FAIL:
            asked = await _of_aws(settings, session)
        us += _places(settings, session, answers, asked=bool(asked))
        return {"account": us, **asked, "settings": [*relations(settings), await stop]}
    finally:
        stop.cancel()


def _places(
    settings: Settings, session: aioboto3.Session, answers: Responses, *, asked: bool
) -> list[CheckResult]:
    aws = settings.aws
    findings = [account.region(aws, session.region_name)]
    for service, url in (("SQS", aws.sqs_endpoint_url), ("DynamoDB", aws.dynamodb_endpoint_url)):
        answered = service.lower() in answers.services if asked else None
        findings.append(account.endpoint(service, url, answered=answered))
    return [*findings, clock(answers.offset_seconds(), settings.clock_skew_seconds)]


async def _of_aws(settings: Settings, session: aioboto3.Session) -> Groups:
    async with (
        open_finder(settings, session=session) as find,
        AUPRepository(settings.aws, session) as repository,
    ):
        (
            (queue_findings, queue_permissions),
            (table_findings, table_permissions),
        ) = await asyncio.gather(_queues(settings, find), _tables(repository))
    return {
        "queues": queue_findings,
        "tables": table_findings,
        "permissions": queue_permissions + table_permissions,
    }


async def _queues(
    settings: Settings, find: Callable[[str], Awaitable[Queue]]
) -> tuple[list[CheckResult], list[CheckResult]]:
    async def look(name: str) -> Found:
        try:
            queue = await find(name)
            return queue, await queue.state()
        except AWSError as error:
            return error

    source, dead = await asyncio.gather(look(settings.queue), look(settings.dead_letter_queue))
    states = [None if isinstance(each, AWSError) else each[1] for each in (source, dead)]
    if isinstance(source, AWSError):
        findings = [_unseen(queues.SOURCE, "AUP_QUEUE", source)]
    else:
        findings = queues.of_source(source[1], states[1], settings)
    if isinstance(dead, AWSError):
        findings.append(_unseen(queues.DEAD_LETTERS, "AUP_DEAD_LETTER_QUEUE", dead))
    else:
        findings += queues.of_dead_letters(dead[1], states[0])
    permitted = await asyncio.gather(
        _permitted(source, queues.SOURCE, permissions.on_source),
        _permitted(dead, queues.DEAD_LETTERS, permissions.on_dead_letters),
    )
    return findings, [*permitted[0], *permitted[1]]


async def _permitted(
    found: Found, target: str, probes: Callable[[Queue], Awaitable[list[CheckResult]]]
) -> list[CheckResult]:
    if isinstance(found, AWSError):
        return [permissions.not_tried(target)]
    return await probes(found[0])


def _unseen(check: str, variable: str, error: AWSError) -> CheckResult:
    if isinstance(error, AWSNotFoundError):
        found = str(error).partition(": create it")[0]
        return failed(check, found, f"make it (`aup-worker init`), or name another in {variable}")
    remedy = "allow sqs:GetQueueAttributes (and sqs:GetQueueUrl, if it is named by name)"
    return unanswered(check, error, remedy=remedy)


async def _tables(repository: AUPRepository) -> tuple[list[CheckResult], list[CheckResult]]:
    async def look(
        check: str,
        variable: str,
        name: str,
        keys: tuple[str, str],
        probes: Callable[[AUPRepository], Awaitable[list[CheckResult]]],
    ) -> tuple[list[CheckResult], list[CheckResult]]:
        try:
            findings = tables.of_table(check, await table_state(repository, name), keys)
        except (AWSNotFoundError, AWSUnavailableError) as error:
            return [tables.unseen(check, variable, error)], [permissions.not_tried(check)]
        except AWSError as error:
            findings = [tables.unseen(check, variable, error)]
        restorable, permitted = await asyncio.gather(
            _recovery(repository, check, name), probes(repository)
        )
        return [*findings, restorable], permitted

    policies, acceptances = await asyncio.gather(
        look(
            tables.POLICIES,
            "AUP_TABLE_NAME",
            repository.table_name,
            tables.POLICY_KEYS,
            permissions.on_policies,
        ),
        look(
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
