"""How the doctor tries what it may do: by calls that change nothing."""

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
from worker.operations.doctor.result import CheckResult, Verdict

PASS, FAIL, UNKNOWN = Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN


class ProbedQueue(FakeQueue):
    """Answer every attempt alike."""

    def __init__(self, answer: AWSError | None) -> None:
        super().__init__()
        self.answer = answer
        self.on_delete = self.on_change = self.on_send = self._each

    def _each(self, entries: Any) -> Any:
        # Of nothing sent, the whole call fails; of a handle that is none, its entry.
        return [self.answer] * len(entries) if entries or self.answer is None else self.answer

    async def receive(self, max_messages: int, **wanted: Any) -> Any:
        assert (max_messages, wanted["visibility_timeout_seconds"]) == (0, 0)
        if self.answer is not None:
            raise self.answer
        return []


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (None, PASS, "is not refused"),
        (LeaseLostError("ReceiptHandleIsInvalid"), PASS, "is not refused"),
        (AWSRejectedError("InvalidParameterValue"), PASS, "is not refused"),
        (AWSDeniedError("AccessDenied: no"), FAIL, "allow sqs:"),
        (AWSNotFoundError("QueueDoesNotExist: no"), FAIL, "see above"),
        (AWSThrottledError("RequestThrottled: later"), UNKNOWN, "try again"),
        (AWSUnavailableError("500: oops"), UNKNOWN, "try again"),
    ],
)
async def test_whoever_hears_what_is_wrong_with_a_request_may_make_it(
    answer: AWSError | None, verdict: Verdict, words: str
) -> None:
    queue = ProbedQueue(answer)
    findings = await permissions.on_source(queue) + await permissions.on_dead_letters(queue)
    assert [each.check for each in findings] == [
        "queue: ReceiveMessage",
        "queue: DeleteMessage",
        "queue: ChangeMessageVisibility",
        "dead-letter queue: SendMessage",
    ]
    for finding in findings:
        assert finding.verdict is verdict
        assert words in f"{finding.found} {finding.remedy}"
    assert queue.of("send") == [[]], "nothing may be sent"


@simulated
async def test_a_message_that_waits_is_neither_taken_nor_counted() -> None:
    world = await open_world()
    await world.push(body(1))
    findings = await permissions.on_source(world.source)
    assert {each.verdict for each in findings} == {PASS}
    (message,) = await world.source.receive(10, wait_seconds=0, visibility_timeout_seconds=30)
    assert message.receive_count == 1


@simulated
@pytest.mark.parametrize(("write_api", "action"), [("batch", "PartiQLInsert"), ("put", "PutItem")])
async def test_the_write_that_is_tried_cannot_succeed(write_api: str, action: str) -> None:
    world = await open_world()
    async with world.repository(aws_settings(write_api=write_api)) as repository:
        findings = await permissions.on_policies(repository)
        findings += await permissions.on_acceptances(repository)
    assert [(each.check, each.verdict) for each in findings] == [
        ("policies: GetItem", PASS),
        ("acceptances: GetItem", PASS),
        (f"acceptances: {action}", PASS),
    ]
    assert world.records() == []


def _client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "BatchExecuteStatement")


async def _written(**spoilt: Any) -> CheckResult:
    world = await open_world()
    for name, value in spoilt.items():
        setattr(world.dynamodb, name, value)
    async with world.repository() as repository:
        return (await permissions.on_acceptances(repository))[1]


@simulated
async def test_a_write_that_is_denied_fails_whole_or_in_its_statement() -> None:
    for spoilt in (
        {"spoil_item": lambda _: "AccessDenied"},
        {"spoil_call": lambda _: _client_error("AccessDeniedException")},
    ):
        finding = await _written(**spoilt)
        assert finding.verdict is FAIL
        assert finding.remedy == "allow dynamodb:PartiQLInsert on the acceptances"


@simulated
async def test_a_server_that_breaks_at_a_statement_tells_nothing_of_the_permission() -> None:
    finding = await _written(spoil_call=lambda _: _client_error("500"))
    assert (finding.verdict, "AUP_WRITE_API=put" in finding.remedy) == (UNKNOWN, True)


@simulated
async def test_a_server_without_partiql_fails_with_the_setting_that_helps() -> None:
    finding = await _written(spoil_call=lambda _: _client_error("UnknownOperationException"))
    assert (finding.verdict, "AUP_WRITE_API=put" in finding.remedy) == (FAIL, True)
    assert "AUP_WRITE_API" not in finding.found


@simulated
async def test_a_table_with_other_keys_fails_the_read() -> None:
    world = await open_world()
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    async with world.repository(swapped) as repository:
        (finding,) = await permissions.on_policies(repository)
    assert (finding.verdict, "keyed by policy_id and version" in finding.remedy) == (FAIL, True)


@simulated
async def test_a_read_that_is_denied_fails() -> None:
    world = await open_world()
    world.dynamodb.read_error = _client_error("AccessDeniedException")
    async with world.repository() as repository:
        (finding,) = await permissions.on_policies(repository)
    assert (finding.verdict, finding.remedy) == (FAIL, "allow dynamodb:GetItem on the policies")


async def test_a_key_that_may_not_be_used_is_named_instead_of_the_queues_permission() -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/0f1e2d3c"
    denied = error_of(
        "KMS.AccessDeniedException",
        f"User: arn:aws:iam::1:user/w is not authorized to perform: kms:GenerateDataKey on "
        f"resource: {key} because no identity-based policy allows it",
    )
    (finding,) = await permissions.on_dead_letters(ProbedQueue(denied))
    assert finding.verdict is FAIL
    assert finding.remedy == f"allow kms:GenerateDataKey on {key}"
    assert "User:" not in finding.found
