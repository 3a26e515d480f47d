"""What the doctor says of queues: each check by what passes, warns, fails or cannot be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.fakes import aws_settings, settings
from worker.aws.queue_state import QueueState, read_queue_state
from worker.operations.doctor import queues
from worker.operations.doctor.result import CheckResult, Verdict

ARN = "arn:aws:sqs:eu-west-1:123456789012:"
ARNS = {"source": f"{ARN}acceptances", "dead": f"{ARN}acceptances-dead"}
PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
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


def test_good_queues_pass_every_check() -> None:
    findings = queues.of_source(source(), dead(), settings())
    findings += queues.of_dead_letters(dead(), source())
    assert {each.verdict for each in findings} == {PASS}
    assert not any(each.remedy for each in findings)
    assert [each.check for each in findings] == [
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
    assert findings[0].found == source().url


def test_a_queue_is_checked_as_far_as_the_other_is_known() -> None:
    assert "redrive target" not in _checks(queues.of_source(source(), None, settings()))
    assert "redrive target" not in _checks(
        queues.of_source(source(max_receive_count=None, redrives_to=None), dead(), settings())
    )
    assert "dead-letter queue: retention" not in _checks(queues.of_dead_letters(dead(), None))


def _checks(findings: list[CheckResult]) -> list[str]:
    return [each.check for each in findings]


@pytest.mark.parametrize(
    ("judged", "verdict", "words"),
    [
        (lambda: queues.kind("queue", source(fifo=True), "AUP_QUEUE"), FAIL, "AUP_QUEUE"),
        (
            lambda: queues.redrive(source(max_receive_count=None), settings()),
            WARN,
            "a maxReceiveCount of 10",
        ),
        (lambda: queues.redrive(source(max_receive_count=8), settings()), FAIL, "above 8"),
        (lambda: queues.redrive(source(max_receive_count=9), settings()), PASS, "9, above"),
        (
            lambda: queues.redrive_target(source(redrives_to=f"{ARN}other"), dead()),
            FAIL,
            f"{ARN}other is not",
        ),
        (lambda: queues.redrive_target(source(), source()), FAIL, "both queues are the same"),
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
            "the worker asks for 120 s",
        ),
        (lambda: queues.patience(source(retention_seconds=7200), settings()), WARN, "longer"),
        (lambda: queues.patience(source(retention_seconds=7201), settings()), PASS, "at most"),
        (
            lambda: queues.retention(source(), dead(retention_seconds=345_600)),
            FAIL,
            "4 days, the queue's 4 days",
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
            "byQueue: not this queue",
        ),
        (
            lambda: queues.redrive_allow(source(), dead(redrive_allow=_by_queue("acceptances"))),
            PASS,
            "this queue",
        ),
        (lambda: queues.encryption("queue", source(encryption="")), WARN, "SqsManagedSseEnabled"),
        (lambda: queues.encryption("queue", source(encryption=None)), UNKNOWN, "does not say"),
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
def test_what_is_not_as_it_should_be_is_told_with_its_remedy(
    judged: Callable[[], CheckResult], verdict: Verdict, words: str
) -> None:
    finding = judged()
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.remedy}"
    assert bool(finding.remedy) == (verdict is not PASS)


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
def test_a_policy_that_refuses_plain_http_is_known_however_it_is_written(
    changes: dict[str, Any],
) -> None:
    assert queues.plain_http("queue", source(**changes)).verdict is PASS


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
def test_a_policy_that_lets_plain_http_in_for_anybody_or_anything_is_warned_of(
    changes: dict[str, Any],
) -> None:
    finding = queues.plain_http("queue", source(**changes))
    assert (finding.verdict, "aws:SecureTransport" in finding.remedy) == (WARN, True)


@pytest.mark.parametrize(
    ("attributes", "encryption"),
    [
        ({}, None),
        ({"SqsManagedSseEnabled": "true"}, "SSE-SQS"),
        ({"SqsManagedSseEnabled": "false"}, ""),
        ({"SqsManagedSseEnabled": "false", "KmsMasterKeyId": "alias/a"}, "alias/a"),
    ],
)
def test_encryption_is_read_from_the_attributes(
    attributes: dict[str, str], encryption: str | None
) -> None:
    assert read_queue_state("https://sqs.test/q", attributes).encryption == encryption


def test_documents_among_the_attributes_are_read_and_what_is_none_stops_nobody() -> None:
    state = read_queue_state(
        "https://sqs.test/q", {"Policy": '{"Statement": []}', "VisibilityTimeout": "7"}
    )
    assert (state.policy, state.visibility_timeout_seconds) == ({"Statement": []}, 7)
    broken = read_queue_state("https://sqs.test/q", {"Policy": "{", "RedriveAllowPolicy": "[]"})
    assert (broken.policy, broken.redrive_allow) == (None, None)


@pytest.mark.parametrize(
    ("source_bytes", "dead_bytes", "verdict"),
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
def test_dead_letter_queue_needs_room_for_the_reason(
    source_bytes: int, dead_bytes: int, verdict: Verdict
) -> None:
    found = queues.message_size(
        source(message_max_bytes=source_bytes), dead(message_max_bytes=dead_bytes)
    )
    assert found.verdict is verdict
    advice = "" if verdict is PASS else "set its MaximumMessageSize to 1048576"
    assert found.remedy == advice
    assert f"{dead_bytes:,}" in found.found
