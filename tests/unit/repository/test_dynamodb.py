"""Tests of the shared resource and of the errors of improper use."""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from typing import Any, cast

import pytest
from botocore.exceptions import NoRegionError, PartialCredentialsError

from tests.simulation.faults import Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import aws_settings, in_child
from worker.errors import (
    AWSDeniedError,
    RepositoryClosedError,
    RepositoryLoopError,
    SettingsError,
    SingletonConflictError,
)
from worker.repository import AUPRepository, DynamoDBRepository, SingletonMeta


def _session() -> SimulatedSession:
    faults = Faults(0)
    return SimulatedSession(SimulatedSQS(faults), SimulatedDynamoDB(faults))


def _repository(session: SimulatedSession, **changes: Any) -> DynamoDBRepository:
    return DynamoDBRepository(aws_settings(**changes), cast("Any", session))


async def _use(repository: DynamoDBRepository) -> object:
    async with repository.dynamodb_resource() as resource:
        await asyncio.sleep(0)
        return resource


def test_equal_settings_return_the_same_repository() -> None:
    assert AUPRepository(aws_settings()) is AUPRepository(aws_settings())


def test_other_settings_raise_a_conflict() -> None:
    AUPRepository(aws_settings())
    with pytest.raises(SingletonConflictError, match=r"already exists .*aws_settings"):
        AUPRepository(aws_settings(table_name="another"))


@simulated
async def test_a_hundred_concurrent_first_users_open_one_resource() -> None:
    session = _session()
    repository = _repository(session)
    resources = await asyncio.gather(*(_use(repository) for _ in range(100)))
    assert len({id(each) for each in resources}) == 1
    assert len(session.openings) == 1
    await _use(repository)
    assert len(session.openings) == 1


@simulated
async def test_resource_stays_open_until_the_repository_is_closed() -> None:
    session = _session()
    async with _repository(session) as repository:
        await _use(repository)
        assert session.open_count == 1
    assert session.open_count == 0


@simulated
async def test_cancelling_the_first_user_does_not_fail_the_others() -> None:
    session = _session()
    repository = _repository(session)
    first = asyncio.create_task(_use(repository))
    second = asyncio.create_task(_use(repository))
    await asyncio.sleep(0.01)
    first.cancel()
    assert await second is not None
    assert first.cancelled()
    assert len(session.openings) == 1


class _Failing(SimulatedSession):
    def __init__(self, *errors: Exception) -> None:
        faults = Faults(0)
        super().__init__(SimulatedSQS(faults), SimulatedDynamoDB(faults))
        self.errors = list(errors)

    def resource(self, service_name: str, **options: Any) -> Any:
        if self.errors:
            raise self.errors.pop(0)
        return super().resource(service_name, **options)


@simulated
async def test_next_user_opens_again_after_a_failed_opening() -> None:
    repository = _repository(_Failing(PartialCredentialsError(provider="env", cred_var="key")))
    with pytest.raises(AWSDeniedError, match="credentials"):
        await _use(repository)
    assert await _use(repository) is not None


@simulated
async def test_missing_region_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="AWS_REGION"):
        await _use(_repository(_Failing(NoRegionError())))


def test_second_event_loop_works_once_the_first_is_closed() -> None:
    session = _session()
    repository = _repository(session)
    first = run(lambda: _use(repository))
    second = run(lambda: _use(repository))
    assert first is not second
    assert len(session.openings) == 2


def test_second_concurrent_event_loop_is_an_error() -> None:
    repository = _repository(_session())
    caught: list[BaseException] = []

    def elsewhere() -> None:
        try:
            run(lambda: _use(repository))
        except RepositoryLoopError as error:
            caught.append(error)

    async def main() -> object:
        await _use(repository)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return await _use(repository)

    assert run(main) is not None
    assert "another event loop" in str(caught[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_needs_a_new_repository() -> None:
    session = _session()
    repository = _repository(session)
    run(lambda: _use(repository))

    def check() -> bool:
        try:
            run(lambda: _use(repository))
        except RepositoryLoopError as error:
            refused = "forked" in str(error)
        else:
            return False
        run(repository.aclose)  # allowed here; closes nothing of the parent
        own = _repository(session)
        return refused and own is not repository and run(lambda: _use(own)) is not None

    assert in_child(check)
    assert run(lambda: _use(repository)) is not None


@simulated
async def test_use_after_close_is_an_error() -> None:
    repository = _repository(_session())
    await _use(repository)
    await repository.aclose()
    with pytest.raises(RepositoryClosedError, match="construct a new one"):
        await _use(repository)
    await repository.aclose()


@simulated
async def test_new_repository_can_be_constructed_after_close() -> None:
    first = _repository(_session())
    await first.aclose()
    second = _repository(_session(), table_name="another")
    assert second is not first
    await first.aclose()
    assert SingletonMeta.current(DynamoDBRepository) is second


@simulated
async def test_closing_an_older_instance_keeps_the_current_one() -> None:
    older = _repository(_session())
    SingletonMeta.forget(DynamoDBRepository)
    present = _repository(_session())
    await older.aclose()
    assert SingletonMeta.current(DynamoDBRepository) is present


@simulated
async def test_closing_during_opening_leaves_nothing_open() -> None:
    session = _session()
    repository = _repository(session)
    user = asyncio.create_task(_use(repository))
    await asyncio.sleep(0.01)
    await repository.aclose()
    await asyncio.gather(user, return_exceptions=True)
    assert session.open_count == 0
    assert user.cancelled() or user.exception() is not None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_copying_and_pickling_are_errors(copied: Any) -> None:
    with pytest.raises(TypeError, match="is a singleton and cannot be copied or pickled"):
        copied(AUPRepository(aws_settings()))


@simulated
async def test_pool_covers_the_concurrency_and_calls_have_a_timeout() -> None:
    session = _session()
    await _use(_repository(session, write_concurrency=30, call_timeout_seconds=7))
    _, _, options = session.openings[0]
    assert options["config"].max_pool_connections >= 2 * 30
    assert options["config"].read_timeout == 7
    assert options["region_name"] == "eu-west-1"


@pytest.mark.parametrize("attempt", [1, 2])
def test_repository_does_not_leak_between_tests(attempt: int) -> None:
    assert SingletonMeta.current(AUPRepository) is None
    AUPRepository(aws_settings(table_name=f"table-{attempt}"))
