"""The set-up examined through the installed command, in good places and in broken ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import boto3
import pytest

from tests.contract.running import RunningServers
from tests.process.credentials import Entrance
from tests.process.workplace import Workplace, body

_REFUSE_HTTP = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}
_EVERYTHING = 41
_TABLES = ("policies", "acceptances")


def _examined(place: Workplace, code: int, **changes: str) -> dict[str, dict[str, str]]:
    done = place.run("doctor", "--json", **changes)
    assert (done.returncode, done.stderr) == (code, "")
    document = json.loads(done.stdout)
    checks: list[dict[str, str]] = document["checks"]
    counted = Counter(each["verdict"] for each in checks)
    assert {name: count for name, count in document["counts"].items() if count} == counted
    found = {each["check"]: each for each in checks}
    assert len(found) == len(checks), "a check's name is its own"
    assert all(bool(each["remedy"]) == (each["verdict"] != "pass") for each in checks)
    return found


def _mended(place: Workplace) -> None:
    """Set up what the doctor warns of, as far as the servers have it."""
    for variable in ("AUP_QUEUE", "AUP_DEAD_LETTER_QUEUE"):
        place.sqs.set_queue_attributes(
            QueueUrl=place.url(variable), Attributes={"Policy": json.dumps(_REFUSE_HTTP)}
        )
    client = place.dynamodb.meta.client
    for variable in ("AUP_TABLE_NAME", "AUP_USER_TABLE_NAME"):
        name = place.environment[variable]
        client.update_table(TableName=name, DeletionProtectionEnabled=True)
        with suppress(client.exceptions.ClientError):  # DynamoDB Local has no recovery
            client.update_continuous_backups(
                TableName=name,
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )


def test_a_good_place_has_nothing_to_mend_and_is_left_as_it_was(operated: Workplace) -> None:
    _mended(operated)
    operated.send(body(1))
    operated.send("{", to="AUP_DEAD_LETTER_QUEUE")
    checks = _examined(operated, 0, AUP_UNKNOWN_POLICY_SECONDS="60")
    assert len(checks) == _EVERYTHING
    # What is left is what the servers are not: a root's keys, no recovery, silent encryption.
    aside = {
        "identity", "stop timeout", "queue: encryption", "dead-letter queue: encryption",
        "policies: recovery", "acceptances: recovery",
    }  # fmt: skip
    assert {name for name, each in checks.items() if each["verdict"] != "pass"} <= aside
    assert checks["credentials"]["found"] == "from the environment, access key id …test"
    assert "maxReceiveCount 12, above AUP_MAX_ATTEMPTS 8" in checks["redrive policy"]["found"]
    assert (operated.depth("AUP_QUEUE"), operated.depth("AUP_DEAD_LETTER_QUEUE")) == (1, 1)
    assert not operated.recorded()
    (message,) = operated.sqs.receive_message(
        QueueUrl=operated.url("AUP_QUEUE"), AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1", "the doctor took it"


def test_what_is_broken_in_several_ways_at_once_is_told_all_at_once(operated: Workplace) -> None:
    queue, dead = operated.url("AUP_QUEUE"), operated.url("AUP_DEAD_LETTER_QUEUE")
    other = operated.sqs.create_queue(QueueName=f"other-{uuid4().hex[:8]}")["QueueUrl"]
    arns = [
        operated.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        for url in (queue, other)
    ]
    redrive = {"deadLetterTargetArn": arns[1], "maxReceiveCount": 3}
    operated.sqs.set_queue_attributes(
        QueueUrl=queue,
        Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "5"},
    )
    operated.sqs.set_queue_attributes(QueueUrl=dead, Attributes={"MessageRetentionPeriod": "60"})
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [arns[1]]}
    with suppress(operated.sqs.exceptions.ClientError):  # fauxqs has no such policy
        operated.sqs.set_queue_attributes(
            QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(allow)}
        )
    swapped = {
        "AUP_TABLE_NAME": operated.environment["AUP_USER_TABLE_NAME"],
        "AUP_USER_TABLE_NAME": "missing",
        "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4",
    }
    checks = _examined(operated, 1, **swapped)
    assert {name for name, each in checks.items() if each["verdict"] == "fail"} == {
        "redrive target",
        "dead-letter queue: retention",
        *_where(operated, "dead-letter queue: redrive-allow"),
        "policies: keys",
        "policies: GetItem",
        "acceptances",
    }
    assert checks["redrive policy"]["verdict"] == "warn", "the worker makes fewer attempts"
    assert checks["queue: visibility"]["verdict"] == "warn"
    assert checks["acceptances: permissions"]["verdict"] == "cannot tell"
    assert "on ECS" in checks["stop timeout"]["found"]
    shown = operated.run("doctor", **swapped)
    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    groups = [line.strip() for line in lines if line and not line.startswith((" ", *_VERDICTS))]
    assert groups == ["account", "queues", "tables", "permissions", "settings", lines[-1]]
    assert lines[-1].startswith(f"{len(checks)} checks: ")
    (line,) = [line for line in lines if line.startswith("warn") and "redrive policy" in line]
    assert "→ set maxReceiveCount above 8, or AUP_MAX_ATTEMPTS below 3" in line


_VERDICTS = ("pass", "warn", "fail", "unknown")


def _where(place: Workplace, check: str) -> list[str]:
    """Give the check where the server keeps a redrive-allow policy."""
    answer = place.sqs.get_queue_attributes(
        QueueUrl=place.url("AUP_DEAD_LETTER_QUEUE"), AttributeNames=["All"]
    )
    return [check] if "RedriveAllowPolicy" in answer["Attributes"] else []


def test_what_nobody_can_be_asked_about_is_not_guessed(workplace: Workplace) -> None:
    checks = _examined(workplace, 1, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    failed = {name for name, each in checks.items() if each["verdict"] == "fail"}
    assert failed == {"SQS endpoint", "DynamoDB endpoint"}
    untried = {name for name, each in checks.items() if each["found"].startswith("not checked")}
    assert untried == {
        f"{target}: permissions" for target in ("queue", "dead-letter queue", *_TABLES)
    }
    assert "policies: recovery" not in checks, "each silence is told once"
    checks = _examined(workplace, 1, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    failed = {name for name, each in checks.items() if each["verdict"] == "fail"}
    assert failed == {"credentials"}
    assert "queue" not in checks


def test_an_endpoint_without_sts_leaves_one_check_open_and_all_others_done(
    workplace: Workplace,
) -> None:
    with Entrance(workplace.environment["AWS_ENDPOINT_URL"]).open() as entrance:
        place = {"AWS_ENDPOINT_URL": entrance.url}
        expected = set(_examined(workplace, 0, **place))
        for code in ("UnsupportedOperation", "InvalidAction", "AccessDenied"):
            entrance.refuse(code, "not here", "sts")
            checks = _examined(workplace, 0, **place)
            assert set(checks) == expected
            assert checks["identity"]["verdict"] == "cannot tell"
        entrance.refuse("InvalidClientTokenId", "wrong keys", "sts")
        checks = _examined(workplace, 1, **place)
    assert checks["identity"]["verdict"] == "fail"
    assert "queue" not in checks, "keys that are refused are refused by everything else too"


def test_a_table_service_without_partiql_is_found_before_the_first_message(
    workplace: Workplace,
) -> None:
    workplace.send(body(1))
    found = _examined(workplace, 0, AUP_WRITE_API="batch")["acceptances: PartiQLInsert"]
    assert found["verdict"] == "cannot tell", "moto breaks at it, as a server may for other reasons"
    assert found["remedy"] == "a table service without PartiQL needs AUP_WRITE_API=put"
    done = workplace.run("run", AUP_WRITE_API="batch", AUP_GIVE_UP_SECONDS="1")
    assert done.returncode == 1
    assert found["remedy"] in done.stderr.splitlines()[-1]
    assert workplace.visible("AUP_QUEUE") == 1


def test_wrong_settings_end_it_with_exit_code_2(workplace: Workplace) -> None:
    done = workplace.run("doctor", AUP_WAIT_SECONDS="20", AUP_DRAIN_TIMEOUT_SECONDS="10")
    assert (done.returncode, done.stdout) == (2, "")
    assert "AUP_DRAIN_TIMEOUT_SECONDS=10: must be greater than AUP_WAIT_SECONDS" in done.stderr
    done = workplace.run("doctor", AWS_REGION="", AUP_QUEUE_URL="x")
    assert (done.returncode, "unknown setting AUP_QUEUE_URL" in done.stderr) == (2, True)


@contextmanager
def _user(url: str, *actions: str) -> Iterator[dict[str, str]]:
    """Lend the keys of a user who may do these things and nothing else."""
    iam: Any = boto3.Session(region_name="us-east-1").client("iam", endpoint_url=url)
    name = f"worker-{uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    iam.put_user_policy(
        UserName=name,
        PolicyName="worker",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
    )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    yield {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.mark.servers
def test_each_permission_that_is_missing_is_named(servers: RunningServers) -> None:
    url = servers.url("ministack_enforcing")
    place = Workplace(url, write_api="batch")
    place.set_up()
    # ministack asks for the names of batches where AWS asks for those of single messages.
    every = {
        "queue: ReceiveMessage": "sqs:ReceiveMessage",
        "queue: DeleteMessage": "sqs:DeleteMessageBatch",
        "queue: ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
        "dead-letter queue: SendMessage": "sqs:SendMessageBatch",
        "policies: GetItem": "dynamodb:GetItem",
        "acceptances: GetItem": "dynamodb:GetItem",
        "acceptances: PartiQLInsert": "dynamodb:BatchExecuteStatement",
    }
    looking = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sts:GetCallerIdentity")
    with _user(url, *looking, *every.values(), "dynamodb:PartiQLInsert") as keys:
        checks = _examined(place, 0, **keys)
    assert {checks[name]["verdict"] for name in every} == {"pass"}
    assert checks["acceptances"]["verdict"] == "cannot tell", "the worker need not describe it"
    with _user(url, *looking, "sqs:ReceiveMessage") as keys:
        checks = _examined(place, 1, **keys)
    missing = set(every) - {"queue: ReceiveMessage"}
    assert {name for name, each in checks.items() if each["verdict"] == "fail"} == missing
    assert checks["queue: DeleteMessage"]["remedy"] == (
        f"allow sqs:DeleteMessage on queue {place.environment['AUP_QUEUE']}"
    )
