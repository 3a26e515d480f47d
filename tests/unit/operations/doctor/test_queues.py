"""Checks of queues: each with what passes, warns, fails or stays unknown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.fakes import aws_settings, settings
from worker.aws.sqs_responses import QueueState, read_queue_state
from worker.operations.doctor import queues
from worker.operations.doctor.result import CheckResult, CheckStatus

ARN = "arn:aws:sqs:eu-west-1:123456789012:"
ARNS = {"source": f"{ARN}acceptances", "dead": f"{ARN}acceptances-dead"}
PASS, WARN, FAIL, UNKNOWN = (
    CheckStatus.PASS,
    CheckStatus.WARN,
    CheckStatus.FAIL,
    CheckStatus.UNKNOWN,
)
ALL_WITHOUT_TLS: dict[str, Any] = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "sqs:*",
    "Resource": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def source(**changes: Any) -> QueueState:
    fields: dict[str, Any] = {
        "url": "https://sqs.eu-west-1.amazonaws.com/123456789012/acceptances",
        "arn": ARNS["source"],
        "visible": 3,
        "in_flight": 2,
        "delayed": 1,
        "retention_seconds": 345_600,
        "fifo": False,
        "max_receive_count": 10,
        "redrives_to": ARNS["dead"],
        "visibility_timeout_seconds": 120,
        "encryption": "SSE-SQS",
        "policy": {"Statement": [ALL_WITHOUT_TLS]},
        "redrive_allow": None,
    }
    return QueueState(**(fields | changes))


def dead(**changes: Any) -> QueueState:
    fields: dict[str, Any] = {
        "arn": ARNS["dead"],
        "retention_seconds": 1_209_600,
        "max_receive_count": None,
        "redrives_to": None,
    }
    return source(**(fields | changes))


def denial(**changes: Any) -> dict[str, Any]:
    return {"policy": {"Statement": [ALL_WITHOUT_TLS | changes]}}


def test_valid_queues_pass_every_check() -> None:
    results = queues.of_source(source(), dead(), settings())
    results += queues.of_dead_letters(dead(), source())
    assert {each.status for each in results} == {PASS}
    assert not any(each.remedy for each in results)
    assert [each.check for each in results] == [
        "queue",
        "queue: type",
        "redrive policy",
        "redrive target",
        "queue: visibility",
        "queue: retention",
        "queue: encryption",
        "queue: plain HTTP",
        "dead-letter queue",
        "dead-letter queue: type",
        "dead-letter queue: retention",
        "dead-letter queue: message size",
        "dead-letter queue: redrive-allow",
        "dead-letter queue: encryption",
        "dead-letter queue: plain HTTP",
    ]
    assert results[0].found == source().url


def test_checks_that_need_both_queues_are_left_out_for_one() -> None:
    assert "redrive target" not in _checks(queues.of_source(source(), None, settings()))
    assert "redrive target" not in _checks(
        queues.of_source(source(max_receive_count=None, redrives_to=None), dead(), settings())
    )
    assert "dead-letter queue: retention" not in _checks(queues.of_dead_letters(dead(), None))


def _checks(results: list[CheckResult]) -> list[str]:
    return [each.check for each in results]


@pytest.mark.parametrize(
    ("run", "status", "words"),
    [
        (lambda: queues.kind("queue", source(fifo=True)), FAIL, "AUP_QUEUE"),
        (
            lambda: queues.redrive(source(max_receive_count=None), settings()),
            WARN,
            "a maxReceiveCount of 10",
        ),
        (lambda: queues.redrive(source(max_receive_count=8), settings()), WARN, "makes only 7,"),
        (lambda: queues.redrive(source(max_receive_count=9), settings()), PASS, "9, above"),
        (
            lambda: queues.redrive_target(source(redrives_to=f"{ARN}other"), dead())[0],
            FAIL,
            f"{ARN}other is not",
        ),
        (lambda: queues.redrive_target(source(), source())[0], FAIL, "are the same queue"),
        (
            lambda: queues.visibility(source(visibility_timeout_seconds=10), settings()),
            WARN,
            "not above AUP_CALL_TIMEOUT_SECONDS 10",
        ),
        (
            lambda: queues.visibility(
                source(visibility_timeout_seconds=11),
                settings(aws=aws_settings(call_timeout_seconds=10)),
            ),
            PASS,
            "the service uses 120 s",
        ),
        (
            lambda: queues.source_retention(source(retention_seconds=7200), settings()),
            WARN,
            "longer",
        ),
        (
            lambda: queues.source_retention(source(retention_seconds=7201), settings()),
            PASS,
            "at most",
        ),
        (
            lambda: queues.retention(source(), dead(retention_seconds=345_600)),
            FAIL,
            "4 days, not above the queue's 4 days",
        ),
        (lambda: queues.retention(source(), dead(retention_seconds=345_601)), PASS, "above"),
        (
            lambda: queues.redrive_allow(
                source(), dead(redrive_allow={"redrivePermission": "denyAll"})
            ),
            FAIL,
            ARNS["source"],
        ),
        (
            lambda: queues.redrive_allow(source(), dead(redrive_allow=_by_queue("other"))),
            FAIL,
            "byQueue excludes this queue",
        ),
        (
            lambda: queues.redrive_allow(source(), dead(redrive_allow=_by_queue("acceptances"))),
            PASS,
            "this queue",
        ),
        (lambda: queues.encryption("queue", source(encryption="")), WARN, "SqsManagedSseEnabled"),
        (lambda: queues.encryption("queue", source(encryption=None)), UNKNOWN, "not reported"),
        (lambda: queues.encryption("queue", source(encryption="alias/key")), PASS, "kms:Decrypt"),
        (
            lambda: queues.encryption("dead-letter queue", dead(encryption="alias/key")),
            PASS,
            "alias/key; needs kms:GenerateDataKey and kms:Decrypt",
        ),
        (
            lambda: queues.encryption("queue", source(encryption="alias/aws/sqs")),
            PASS,
            "alias/aws/sqs",
        ),
    ],
)
def test_result_has_a_remedy_unless_it_passed(
    run: Callable[[], CheckResult], status: CheckStatus, words: str
) -> None:
    result = run()
    assert result.status is status
    assert words in f"{result.found} {result.remedy}"
    assert bool(result.remedy) == (status is not PASS)


def _by_queue(name: str) -> dict[str, Any]:
    return {"redrivePermission": "byQueue", "sourceQueueArns": [f"{ARN}{name}"]}


@pytest.mark.parametrize(
    "changes",
    [
        denial(Principal={"AWS": "*"}),
        denial(Action=["SQS:*"]),
        denial(Action="*"),
        denial(Condition={"BoolIfExists": {"AWS:secureTransport": ["false"]}}),
        denial(Condition={"Bool": {"aws:SecureTransport": False}}),
        {"policy": {"Statement": ALL_WITHOUT_TLS}},
        {"policy": {"Statement": [{"Effect": "Allow"}, ALL_WITHOUT_TLS]}},
    ],
)
def test_policy_that_denies_plain_http_passes_in_every_notation(
    changes: dict[str, Any],
) -> None:
    assert queues.plain_http("queue", source(**changes)).status is PASS


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": None},
        {"policy": {}},
        {"policy": {"Statement": ["nonsense"]}},
        denial(Effect="Allow"),
        denial(Principal={"AWS": "arn:aws:iam::123456789012:role/one"}),
        denial(Action="sqs:SendMessage"),
        denial(Condition={"Bool": {"aws:SecureTransport": "true"}}),
        denial(Condition={"Bool": {"aws:SecureTransport": "false", "aws:MultiFactor": "false"}}),
        denial(
            Condition={
                "Bool": {"aws:SecureTransport": "false"},
                "StringEquals": {"aws:PrincipalAccount": "1"},
            }
        ),
        denial(Condition=None),
    ],
)
def test_policy_that_allows_plain_http_to_any_caller_is_a_warning(
    changes: dict[str, Any],
) -> None:
    result = queues.plain_http("queue", source(**changes))
    assert (result.status, "aws:SecureTransport" in result.remedy) == (WARN, True)


@pytest.mark.parametrize(
    ("attributes", "encryption"),
    [
        ({}, None),
        ({"SqsManagedSseEnabled": "true"}, "SSE-SQS"),
        ({"SqsManagedSseEnabled": "false"}, ""),
        ({"SqsManagedSseEnabled": "false", "KmsMasterKeyId": "alias/a"}, "alias/a"),
    ],
)
def test_encryption_is_read_from_the_queue_attributes(
    attributes: dict[str, str], encryption: str | None
) -> None:
    assert read_queue_state("https://sqs.test/q", attributes).encryption == encryption


def test_json_attributes_are_parsed_and_invalid_ones_ignored() -> None:
    state = read_queue_state(
        "https://sqs.test/q", {"Policy": '{"Statement": []}', "VisibilityTimeout": "7"}
    )
    assert (state.policy, state.visibility_timeout_seconds) == ({"Statement": []}, 7)
    broken = read_queue_state("https://sqs.test/q", {"Policy": "{", "RedriveAllowPolicy": "[]"})
    assert (broken.policy, broken.redrive_allow) == (None, None)


@pytest.mark.parametrize(
    ("source_bytes", "dead_bytes", "status"),
    [
        (1_048_576, 1_048_576, PASS),
        (262_144, 1_048_576, PASS),
        (262_144, 263_168, PASS),
        (262_144, 263_167, FAIL),
        (262_144, 262_144, FAIL),
        (1_048_576, 1_048_575, FAIL),
        (1_048_576, 262_144, FAIL),
    ],
)
def test_dead_letter_queue_must_accept_messages_with_their_reason(
    source_bytes: int, dead_bytes: int, status: CheckStatus
) -> None:
    result = queues.message_size(
        source(message_max_bytes=source_bytes), dead(message_max_bytes=dead_bytes)
    )
    assert result.status is status
    remedy = "" if status is PASS else "set its MaximumMessageSize to 1048576"
    assert result.remedy == remedy
    assert f"{dead_bytes:,}" in result.found
