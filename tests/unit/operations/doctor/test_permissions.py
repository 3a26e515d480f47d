"""Checks of permissions, by calls that change nothing."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import FakeQueue, aws_settings, body, open_world
from worker.aws.error_codes import error_of
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
)
from worker.operations.doctor import permissions
from worker.operations.doctor.result import CheckResult, CheckStatus
from worker.operations.doctor.tables import ACCEPTANCES, POLICIES

PASS, FAIL, UNKNOWN = CheckStatus.PASS, CheckStatus.FAIL, CheckStatus.UNKNOWN


class ProbedQueue(FakeQueue):
    """A queue whose calls all have the same result."""

    def __init__(self, error: AWSError | None) -> None:
        super().__init__()
        self.error = error
        self.on_delete = self.on_change = self.on_send = self._each

    def _each(self, entries: Any) -> Any:
        # An empty batch fails as a whole; an invalid receipt handle fails its entry.
        return [self.error] * len(entries) if entries or self.error is None else self.error

    async def receive(self, max_messages: int, **wanted: Any) -> Any:
        assert (max_messages, wanted["visibility_timeout_seconds"]) == (0, 0)
        if self.error is not None:
            raise self.error
        return []


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (None, PASS, "is allowed"),
        (LeaseLostError("ReceiptHandleIsInvalid"), PASS, "is allowed"),
        (AWSRejectedError("InvalidParameterValue"), PASS, "is allowed"),
        (AWSDeniedError("AccessDenied: no"), FAIL, "allow sqs:"),
        (AWSNotFoundError("QueueDoesNotExist: no"), FAIL, "see the results above"),
        (AWSThrottledError("RequestThrottled: later"), UNKNOWN, "try again"),
        (AWSUnavailableError("500: oops"), UNKNOWN, "try again"),
    ],
)
async def test_operation_is_allowed_if_its_error_is_about_the_request(
    error: AWSError | None, status: CheckStatus, words: str
) -> None:
    queue = ProbedQueue(error)
    results = await permissions.on_source(queue) + await permissions.on_dead_letters(queue)
    assert [each.check for each in results] == [
        "queue: ReceiveMessage",
        "queue: DeleteMessage",
        "queue: ChangeMessageVisibility",
        "dead-letter queue: SendMessage",
    ]
    for result in results:
        assert result.status is status
        assert words in f"{result.found} {result.remedy}"
    assert queue.of("send") == [[]], "no message may be sent"


@simulated
async def test_probing_does_not_receive_a_waiting_message() -> None:
    world = await open_world()
    await world.push(body(1))
    results = await permissions.on_source(world.source)
    assert {each.status for each in results} == {PASS}
    (message,) = await world.source.receive(10, wait_seconds=0, visibility_timeout_seconds=30)
    assert message.receive_count == 1


@simulated
@pytest.mark.parametrize(("write_api", "action"), [("batch", "PartiQLInsert"), ("put", "PutItem")])
async def test_probed_write_stores_nothing(write_api: str, action: str) -> None:
    world = await open_world()
    async with world.repository(aws_settings(write_api=write_api)) as repository:
        results = await permissions.on_table(repository, POLICIES)
        results += await permissions.on_table(repository, ACCEPTANCES)
    assert [(each.check, each.status) for each in results] == [
        ("policies: GetItem", PASS),
        ("acceptances: GetItem", PASS),
        (f"acceptances: {action}", PASS),
    ]
    assert world.records() == []


def _client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "BatchExecuteStatement")


async def _write_result(**faults: Any) -> CheckResult:
    world = await open_world()
    for name, value in faults.items():
        setattr(world.dynamodb, name, value)
    async with world.repository() as repository:
        return (await permissions.on_table(repository, ACCEPTANCES))[1]


@simulated
async def test_denied_write_fails_for_the_call_and_for_the_statement() -> None:
    for faults in (
        {"spoil_item": lambda _: "AccessDenied"},
        {"spoil_call": lambda _: _client_error("AccessDeniedException")},
    ):
        result = await _write_result(**faults)
        assert result.status is FAIL
        assert result.remedy == "allow dynamodb:PartiQLInsert on table aup-acceptances"


@simulated
async def test_server_error_leaves_the_write_permission_unknown() -> None:
    result = await _write_result(spoil_call=lambda _: _client_error("500"))
    assert (result.status, "AUP_WRITE_API=put" in result.remedy) == (UNKNOWN, True)


@simulated
async def test_server_without_partiql_fails_with_the_setting_to_change() -> None:
    result = await _write_result(spoil_call=lambda _: _client_error("UnknownOperationException"))
    assert (result.status, "AUP_WRITE_API=put" in result.remedy) == (FAIL, True)
    assert "AUP_WRITE_API" not in result.found


@simulated
async def test_table_with_other_keys_fails_the_read() -> None:
    world = await open_world()
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    async with world.repository(swapped) as repository:
        (result,) = await permissions.on_table(repository, POLICIES)
    assert (
        result.status,
        "policy_id (S), version (S), or set AUP_TABLE_NAME" in result.remedy,
    ) == (FAIL, True)


@simulated
async def test_denied_read_fails() -> None:
    world = await open_world()
    world.dynamodb.read_error = _client_error("AccessDeniedException")
    async with world.repository() as repository:
        (result,) = await permissions.on_table(repository, POLICIES)
    assert (result.status, result.remedy) == (FAIL, "allow dynamodb:GetItem on table aup-policies")


async def test_denied_kms_key_is_named_instead_of_the_queue_permission() -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"
    denied = error_of(
        "KMS.AccessDeniedException",
        f"User: arn:aws:iam::1:user/w is not authorized to perform: kms:GenerateDataKey on "
        f"resource: {key} because no identity-based policy allows it",
    )
    (result,) = await permissions.on_dead_letters(ProbedQueue(denied))
    assert result.status is FAIL
    assert result.remedy == f"allow kms:GenerateDataKey on {key}"
    assert "User:" not in result.found
