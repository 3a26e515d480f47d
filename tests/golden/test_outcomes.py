"""Outcomes of messages and results of `doctor`, by cause."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from tests.golden.golden import Golden, table
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    FakeAcceptanceStore,
    acceptance,
    aws_settings,
    clock,
    policy,
    received_message,
    service_state,
    settings,
)
from worker.aws.sqs_responses import QueueState
from worker.domain.outcome import Outcome
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
)
from worker.operations.doctor import account, queues, tables
from worker.operations.doctor.result import CheckResult, from_error
from worker.operations.doctor.service_settings import of_task, of_unit, relations
from worker.pipeline.record import Recorder
from worker.repository import RecordResult
from worker.repository.inspection import TableState

_ARN = "arn:aws:sqs:eu-west-1:123456789012:"
_ERRORS: tuple[AWSError, ...] = (
    AWSThrottledError("Throttling: slow down"),
    AWSUnavailableError("InternalError: broken"),
    AWSDeniedError("AccessDenied: no; grant the permissions"),
    AWSNotFoundError("ResourceNotFoundException: no such thing"),
    AWSUnsupportedError("UnknownOperationException: what"),
    AWSRejectedError("ValidationException: wrong"),
)


async def _recorded(result: RecordResult | AWSError, **changes: Any) -> Outcome:
    receive_count = changes.pop("receive_count", 1)
    version = changes.pop("published", "2026-01")
    store = FakeAcceptanceStore(policy(version))
    store.results = [result] * 1000
    state = service_state()
    recorder = Recorder(store, settings(), state, clock, Counter())
    if changes.pop("stop", False):
        state.stopping.set()
    return await recorder.record(
        acceptance(**changes), received_message(receive_count=receive_count)
    )


@simulated
async def test_outcomes_of_recording(golden: Golden) -> None:
    done = RecordResult.RECORDED
    outcomes = {
        "recorded": await _recorded(done),
        "duplicate": await _recorded(RecordResult.DUPLICATE),
        "conflict": await _recorded(RecordResult.CONFLICT),
        "another text": await _recorded(done, content_sha256="0" * 64),
        "unknown policy": await _recorded(done, published="2027-01"),
        "unknown policy, last receive": await _recorded(done, published="2027-01", receive_count=8),
        "stopping": await _recorded(_ERRORS[0], stop=True),
    }
    for error in _ERRORS:
        name = type(error).__name__
        outcomes[name] = await _recorded(error)
        outcomes[f"{name}, last receive"] = await _recorded(error, receive_count=8)
    rows: dict[str, str | list[str]] = {
        cause: f"{each.kind}, reason {each.reason}: {each.detail}"
        for cause, each in outcomes.items()
    }
    golden.check("outcomes", {"outcomes.txt": table(rows)})


_SOURCE = QueueState(
    url="https://sqs.eu-west-1.amazonaws.com/123456789012/acceptances",
    arn=f"{_ARN}acceptances",
    visible=3,
    in_flight=2,
    delayed=1,
    retention_seconds=345_600,
    fifo=False,
    max_receive_count=10,
    redrives_to=f"{_ARN}dead",
    visibility_timeout_seconds=120,
    encryption="SSE-SQS",
    policy=None,
    redrive_allow=None,
)
_DEAD = replace(
    _SOURCE,
    arn=f"{_ARN}dead",
    retention_seconds=1_209_600,
    max_receive_count=None,
    redrives_to=None,
)
_SOURCES: dict[str, dict[str, Any]] = {
    "good": {},
    "FIFO": {"fifo": True},
    "no redrive policy": {"max_receive_count": None, "redrives_to": None},
    "low maxReceiveCount": {"max_receive_count": 8},
    "redrives elsewhere": {"redrives_to": f"{_ARN}other"},
    "the dead-letter queue itself": {"arn": f"{_ARN}dead"},
    "short visibility": {"visibility_timeout_seconds": 10},
    "short retention": {"retention_seconds": 60},
    "long retention": {"retention_seconds": 1_209_600},
    "not encrypted": {"encryption": ""},
    "encryption unknown": {"encryption": None},
    "own key": {"encryption": "alias/key"},
}
_DEAD_LETTERS: dict[str, dict[str, Any]] = {
    "good": {},
    "FIFO": {"fifo": True},
    "redrive denied": {"redrive_allow": {"redrivePermission": "denyAll"}},
    "redrive by other queues": {
        "redrive_allow": {"redrivePermission": "byQueue", "sourceQueueArns": [f"{_ARN}other"]}
    },
    "small messages": {"message_max_bytes": 262_144},
    "own key": {"encryption": "alias/key"},
}
_TABLE = TableState(
    name="users",
    status="ACTIVE",
    keys=(("user_id", "S"), ("policy_version", "S")),
    write_units=None,
    is_deletion_protected=True,
)
_TABLES: dict[str, dict[str, Any]] = {
    "good": {},
    "being created": {"status": "CREATING"},
    "key gone": {"status": "INACCESSIBLE_ENCRYPTION_CREDENTIALS"},
    "own key": {"kms_key": "arn:aws:kms:eu-west-1:1:key/k"},
    "other keys": {"keys": (("user_id", "S"), ("policy_version", "N"))},
    "provisioned": {"write_units": 5},
    "not protected": {"is_deletion_protected": False},
}


def _queues() -> dict[str, list[CheckResult]]:
    found = {
        f"queue, {name}": queues.of_source(replace(_SOURCE, **changes), _DEAD, settings())
        for name, changes in _SOURCES.items()
    }
    for name, changes in _DEAD_LETTERS.items():
        found[f"dead-letter queue, {name}"] = queues.of_dead_letters(
            replace(_DEAD, **changes), _SOURCE
        )
    return found


def _tables() -> dict[str, list[CheckResult]]:
    found = {
        f"table, {name}": tables.of_table(tables.ACCEPTANCES, replace(_TABLE, **changes))
        for name, changes in _TABLES.items()
    }
    recoveries: tuple[bool | AWSError, ...] = (True, False, *_ERRORS)
    for recovery in recoveries:
        name = type(recovery).__name__ if isinstance(recovery, AWSError) else recovery
        found[f"recovery, {name}"] = [tables.recovery(tables.POLICIES, recovery)]
    for error in _ERRORS:
        name = type(error).__name__
        found[f"table unseen, {name}"] = [tables.not_described(tables.POLICIES, error)]
        found[f"unanswered, {name}"] = [from_error("check", error, remedy="the remedy")]
        found[f"unanswered and not needed, {name}"] = [
            from_error("check", error, remedy="the remedy", needed=False)
        ]
    return found


def _surroundings() -> dict[str, list[CheckResult]]:
    found = {
        f"unit, {shown}": [of_unit("aup.service", shown, settings())]
        for shown in (
            {"TimeoutStopUSec": "1min 30s"},
            {"TimeoutStopUSec": "27s"},
            {"TimeoutStopUSec": "25s"},
            {"TimeoutStopUSec": "10s", "NotifyAccess": "main"},
            {"TimeoutStopUSec": "10s", "NotifyAccess": "none"},
            {"TimeoutStopUSec": "4s", "NotifyAccess": "main"},
            {"LoadState": "not-found"},
            {},
        )
    }
    for task in ({"LaunchType": "FARGATE"}, {"LaunchType": "EC2"}, {}, None):
        found[f"ECS task, {task}"] = [of_task(task, settings())]
    long = settings(drain_timeout_seconds=120, stop_timeout_seconds=130)
    found["ECS task, long drain"] = [of_task({"LaunchType": "FARGATE"}, long)]
    for seconds in (None, 0.4, 5.5, -90.0, -300.0):
        found[f"clock, {seconds}"] = [account.clock(seconds, 300)]
    for url, responded in (
        (None, True), ("http://127.0.0.1:5000", True), ("http://sqs.example", True),
        ("http://sqs.example", False), (None, False), (None, None),
    ):  # fmt: skip
        found[f"endpoint, {url}, {responded}"] = [account.endpoint("SQS", url, responded=responded)]
    for arn in ("arn:aws:iam::1:role/worker", "arn:aws:iam::1:root", ""):
        found[f"identity, {arn}"] = [account.of_arn(arn)]
    for region, of_profile in (("eu-west-1", None), (None, "eu-west-1"), (None, None)):
        key = f"region, {region}, {of_profile}"
        found[key] = [account.region(aws_settings(region=region), of_profile)]
    absence = settings(aws=aws_settings(policy_absence_seconds=60.0))
    return found | {"settings": relations(settings()), "settings, absence": relations(absence)}


def _shown(result: CheckResult) -> str:
    remedy = f" -> {result.remedy}" if result.remedy else ""
    return f"{result.status}: {result.check}: {result.found}{remedy}"


def test_results_of_doctor(golden: Golden) -> None:
    texts = {}
    for name, found in (
        ("queues", _queues()),
        ("tables", _tables()),
        ("surroundings", _surroundings()),
    ):
        rows: dict[str, str | list[str]] = {
            cause: [_shown(each) for each in results] for cause, results in found.items()
        }
        texts[f"{name}.txt"] = table(rows)
    golden.check("doctor", texts)
