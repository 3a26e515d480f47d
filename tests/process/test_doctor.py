"""`doctor` on correct setups and on misconfigured ones."""

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
from tests.process.credentials import AWSProxy
from tests.process.environment import Environment, body

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
_ALL_CHECKS = 41
_TABLES = ("policies", "acceptances")


def _run_doctor(environment: Environment, code: int, **changes: str) -> dict[str, dict[str, str]]:
    done = environment.run("doctor", "--json", **changes)
    assert (done.returncode, done.stderr) == (code, "")
    document = json.loads(done.stdout)
    checks: list[dict[str, str]] = document["checks"]
    counted = Counter(each["verdict"] for each in checks)
    assert {name: count for name, count in document["counts"].items() if count} == counted
    found = {each["check"]: each for each in checks}
    assert len(found) == len(checks), "names of checks are unique"
    assert all(bool(each["remedy"]) == (each["verdict"] != "pass") for each in checks)
    return found


def _fix_warnings(environment: Environment) -> None:
    """Configure what `doctor` warns about, as far as the servers support it."""
    for variable in ("AUP_QUEUE", "AUP_DEAD_LETTER_QUEUE"):
        environment.sqs.set_queue_attributes(
            QueueUrl=environment.url(variable), Attributes={"Policy": json.dumps(_REFUSE_HTTP)}
        )
    client = environment.dynamodb.meta.client
    for variable in ("AUP_TABLE_NAME", "AUP_USER_TABLE_NAME"):
        name = environment.variables[variable]
        client.update_table(TableName=name, DeletionProtectionEnabled=True)
        with suppress(client.exceptions.ClientError):  # not supported by DynamoDB Local
            client.update_continuous_backups(
                TableName=name,
                PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
            )


def test_correct_setup_passes_and_is_left_unchanged(deployment: Environment) -> None:
    _fix_warnings(deployment)
    deployment.send(body(1))
    deployment.send("{", to="AUP_DEAD_LETTER_QUEUE")
    checks = _run_doctor(deployment, 0, AUP_UNKNOWN_POLICY_SECONDS="60")
    assert len(checks) == _ALL_CHECKS
    # The rest depends on features that the servers lack: identities, recovery, encryption.
    expected = {
        "identity", "stop timeout", "queue: encryption", "dead-letter queue: encryption",
        "policies: recovery", "acceptances: recovery",
    }  # fmt: skip
    assert {name for name, each in checks.items() if each["verdict"] != "pass"} <= expected
    assert checks["credentials"]["found"] == "from the environment, access key id …test"
    assert "maxReceiveCount 12, above AUP_MAX_ATTEMPTS 8" in checks["redrive policy"]["found"]
    assert (deployment.depth("AUP_QUEUE"), deployment.depth("AUP_DEAD_LETTER_QUEUE")) == (1, 1)
    assert not deployment.recorded()
    (message,) = deployment.sqs.receive_message(
        QueueUrl=deployment.url("AUP_QUEUE"), AttributeNames=["ApproximateReceiveCount"]
    )["Messages"]
    assert message["Attributes"]["ApproximateReceiveCount"] == "1", "doctor received the message"


def _misconfigure(deployment: Environment) -> dict[str, str]:
    """Set the queues against each other, and return settings that swap the tables."""
    queue, dead = deployment.url("AUP_QUEUE"), deployment.url("AUP_DEAD_LETTER_QUEUE")
    other = deployment.sqs.create_queue(QueueName=f"other-{uuid4().hex[:8]}")["QueueUrl"]
    attributes = deployment.sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])
    other_arn = attributes["Attributes"]["QueueArn"]
    redrive = {"deadLetterTargetArn": other_arn, "maxReceiveCount": 3}
    deployment.sqs.set_queue_attributes(
        QueueUrl=queue,
        Attributes={"RedrivePolicy": json.dumps(redrive), "VisibilityTimeout": "5"},
    )
    deployment.sqs.set_queue_attributes(QueueUrl=dead, Attributes={"MessageRetentionPeriod": "60"})
    allow = {"redrivePermission": "byQueue", "sourceQueueArns": [other_arn]}
    with suppress(deployment.sqs.exceptions.ClientError):  # not supported by fauxqs
        deployment.sqs.set_queue_attributes(
            QueueUrl=dead, Attributes={"RedriveAllowPolicy": json.dumps(allow)}
        )
    return {
        "AUP_TABLE_NAME": deployment.variables["AUP_USER_TABLE_NAME"],
        "AUP_USER_TABLE_NAME": "missing",
        "ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4",
    }


def test_all_problems_of_a_setup_are_reported_in_one_run(deployment: Environment) -> None:
    swapped = _misconfigure(deployment)
    checks = _run_doctor(deployment, 1, **swapped)
    assert {name for name, each in checks.items() if each["verdict"] == "fail"} == {
        "redrive target",
        "dead-letter queue: retention",
        *_if_supported(deployment, "dead-letter queue: redrive-allow"),
        "policies: keys",
        "policies: GetItem",
        "acceptances",
    }
    assert checks["redrive policy"]["verdict"] == "warn", "fewer receives than attempts"
    assert checks["queue: visibility"]["verdict"] == "warn"
    assert checks["acceptances: permissions"]["verdict"] == "cannot tell"
    assert "on ECS" in checks["stop timeout"]["found"]
    shown = deployment.run("doctor", **swapped)
    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    groups = [line.strip() for line in lines if line and not line.startswith((" ", *_VERDICTS))]
    assert groups == ["account", "queues", "tables", "permissions", "settings", lines[-1]]
    assert lines[-1].startswith(f"{len(checks)} checks: ")
    (line,) = [line for line in lines if line.startswith("warn") and "redrive policy" in line]
    assert "→ set maxReceiveCount above 8, or AUP_MAX_ATTEMPTS below 3" in line


_VERDICTS = ("pass", "warn", "fail", "unknown")


def _if_supported(environment: Environment, check: str) -> list[str]:
    """Return the check if the server supports redrive-allow policies."""
    response = environment.sqs.get_queue_attributes(
        QueueUrl=environment.url("AUP_DEAD_LETTER_QUEUE"), AttributeNames=["All"]
    )
    return [check] if "RedriveAllowPolicy" in response["Attributes"] else []


def test_checks_that_depend_on_an_unreachable_endpoint_are_not_guessed(
    environment: Environment,
) -> None:
    checks = _run_doctor(environment, 1, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    failed = {name for name, each in checks.items() if each["verdict"] == "fail"}
    assert failed == {"SQS endpoint", "DynamoDB endpoint"}
    not_checked = {name for name, each in checks.items() if each["found"].startswith("not checked")}
    assert not_checked == {
        f"{target}: permissions" for target in ("queue", "dead-letter queue", *_TABLES)
    }
    assert "policies: recovery" not in checks, "each unreachable endpoint is reported once"
    checks = _run_doctor(environment, 1, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    failed = {name for name, each in checks.items() if each["verdict"] == "fail"}
    assert failed == {"credentials"}
    assert "queue" not in checks


def test_endpoint_without_sts_leaves_only_the_identity_unknown(
    environment: Environment,
) -> None:
    with AWSProxy(environment.variables["AWS_ENDPOINT_URL"]).open() as proxy:
        endpoint = {"AWS_ENDPOINT_URL": proxy.url}
        expected = set(_run_doctor(environment, 0, **endpoint))
        for code in ("UnsupportedOperation", "InvalidAction", "AccessDenied"):
            proxy.reject(code, "not here", "sts")
            checks = _run_doctor(environment, 0, **endpoint)
            assert set(checks) == expected
            assert checks["identity"]["verdict"] == "cannot tell"
        proxy.reject("InvalidClientTokenId", "wrong keys", "sts")
        checks = _run_doctor(environment, 1, **endpoint)
    assert checks["identity"]["verdict"] == "fail"
    assert "queue" not in checks, "rejected keys are rejected by every service"


def test_server_without_partiql_is_detected_before_the_first_message(
    environment: Environment,
) -> None:
    environment.send(body(1))
    found = _run_doctor(environment, 0, AUP_WRITE_API="batch")["acceptances: PartiQLInsert"]
    assert found["verdict"] == "cannot tell", "moto fails with an internal error"
    assert found["remedy"] == "a table service without PartiQL needs AUP_WRITE_API=put"
    done = environment.run("run", AUP_WRITE_API="batch", AUP_GIVE_UP_SECONDS="1")
    assert done.returncode == 1
    assert found["remedy"] in done.stderr.splitlines()[-1]
    assert environment.visible("AUP_QUEUE") == 1


def test_invalid_settings_exit_with_code_2(environment: Environment) -> None:
    done = environment.run("doctor", AUP_WAIT_SECONDS="20", AUP_DRAIN_TIMEOUT_SECONDS="10")
    assert (done.returncode, done.stdout) == (2, "")
    assert "AUP_DRAIN_TIMEOUT_SECONDS=10: must be greater than AUP_WAIT_SECONDS" in done.stderr
    done = environment.run("doctor", AWS_REGION="", AUP_QUEUE_URL="x")
    assert (done.returncode, "unknown setting AUP_QUEUE_URL" in done.stderr) == (2, True)


@contextmanager
def _user(url: str, *actions: str) -> Iterator[dict[str, str]]:
    """Yield the keys of a user who has only these permissions."""
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
def test_every_missing_permission_is_named(servers: RunningServers) -> None:
    url = servers.url("ministack_enforcing")
    environment = Environment(url, write_api="batch")
    environment.set_up()
    # ministack checks batch actions where AWS checks those of single messages.
    required = {
        "queue: ReceiveMessage": "sqs:ReceiveMessage",
        "queue: DeleteMessage": "sqs:DeleteMessageBatch",
        "queue: ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
        "dead-letter queue: SendMessage": "sqs:SendMessageBatch",
        "policies: GetItem": "dynamodb:GetItem",
        "acceptances: GetItem": "dynamodb:GetItem",
        "acceptances: PartiQLInsert": "dynamodb:BatchExecuteStatement",
    }
    reading = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sts:GetCallerIdentity")
    with _user(url, *reading, *required.values(), "dynamodb:PartiQLInsert") as keys:
        checks = _run_doctor(environment, 0, **keys)
    assert {checks[name]["verdict"] for name in required} == {"pass"}
    assert checks["acceptances"]["verdict"] == "cannot tell", (
        "the worker does not need DescribeTable"
    )
    with _user(url, *reading, "sqs:ReceiveMessage") as keys:
        checks = _run_doctor(environment, 1, **keys)
    missing = set(required) - {"queue: ReceiveMessage"}
    assert {name for name, each in checks.items() if each["verdict"] == "fail"} == missing
    assert checks["queue: DeleteMessage"]["remedy"] == (
        f"allow sqs:DeleteMessage on queue {environment.variables['AUP_QUEUE']}"
    )
