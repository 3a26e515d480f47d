"""The verbs work under exactly the permissions of their roles, and the roles permit nothing else."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from tests.bench.stub.certificates import make_chain
from tests.contract.running import running_servers
from tests.infra.stacks import Stacks, listed, resources
from tests.process.workplace import COMMAND, DEADLINE_SECONDS, Service, acceptance, wait_until
from tests.servers.launch import ministack

pytestmark = pytest.mark.servers

PEOPLE: Final = ("Producer", "Replayer", "Publisher", "Auditor", "Eraser")

# The emulator asks for actions that AWS does not have: there a batch needs the action of its
# entries, and batches of PartiQL statements, whatever they do to which table, need one action on
# everything. Granted here alone, to the roles that hold AWS's own action.
EMULATED_BATCHES: Final = {
    "sqs:SendMessage": "sqs:SendMessageBatch",
    "sqs:DeleteMessage": "sqs:DeleteMessageBatch",
    "sqs:ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
}
EMULATED_STATEMENTS: Final = {"dynamodb:PartiQLInsert": "dynamodb:BatchExecuteStatement"}


class Deployed(Stacks):
    """The data and the roles, deployed, and the installed command under each role."""

    def __init__(self, url: str, trusted: Path) -> None:
        super().__init__(url, trusted)
        self.deploy("data")
        self.deploy("roles")
        # As somebody pastes it.
        exported = shlex.split(self.outputs["Environment"])
        assert exported[0] == "export"
        self.environment = {
            **dict(each.split("=", 1) for each in exported[1:]),
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": url,
            "AWS_CA_BUNDLE": str(trusted),
            "AWS_EC2_METADATA_DISABLED": "true",
            "AUP_WAIT_SECONDS": "1",
            "AUP_BACKOFF_BASE_SECONDS": "0.2",
            "AUP_BACKOFF_CAP_SECONDS": "1",
            "AUP_UNKNOWN_POLICY_SECONDS": "0.2",
            "AUP_POLICY_ABSENCE_SECONDS": "0.2",
        }
        self.users = self.environment["AUP_USER_TABLE_NAME"]
        self.policies = self.environment["AUP_TABLE_NAME"]
        self.queue = self.environment["AUP_QUEUE"]
        self.dead = self.environment["AUP_DEAD_LETTER_QUEUE"]
        self._credentials = {name: self._assumed(name) for name in (*PEOPLE, "Worker")}

    def credentials(self, role: str) -> dict[str, str]:
        """Give what a client of boto3 takes."""
        given = self._credentials[role]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    def of(self, role: str) -> dict[str, str]:
        """Give the environment of a role."""
        names = {name.upper(): value for name, value in self.credentials(role).items()}
        return self.environment | names

    def _assumed(self, role: str) -> dict[str, str]:
        arn = self.outputs[f"{role}RoleArn"]
        if role == "Worker":
            arn = self._twin()
        self._grant_what_only_the_emulator_asks_for(role, arn.rpartition("/")[2])
        answer = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")
        credentials: dict[str, str] = answer["Credentials"]
        return credentials

    def _twin(self) -> str:
        """Make a role of the worker's policy that a test may take; the worker's is for ECS alone."""
        iam = self.client("iam")
        arn = f"arn:aws:iam::{self.client('sts').get_caller_identity()['Account']}:root"
        trust = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = iam.create_role(RoleName="twin", AssumeRolePolicyDocument=document)["Role"]
        iam.attach_role_policy(RoleName="twin", PolicyArn=self.outputs["WorkerPolicyArn"])
        return str(role["Arn"])

    def _grant_what_only_the_emulator_asks_for(self, role: str, name: str) -> None:
        iam = self.client("iam")
        arn = self.outputs[f"{role}PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        kept = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        granted = []
        for statement in kept["Document"]["Statement"]:
            held = listed(statement["Action"])
            for emulated, on in ((EMULATED_BATCHES, statement["Resource"]), (EMULATED_STATEMENTS, "*")):
                if more := [emulated[action] for action in held if action in emulated]:
                    granted.append({"Effect": "Allow", "Action": more, "Resource": on})
        if granted:
            iam.put_role_policy(
                RoleName=name,
                PolicyName="emulator",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": granted}),
            )

    def run(self, role: str, *arguments: str, stdin: str = "") -> Any:
        """Run a verb as a role, and give the JSON that it printed."""
        done = subprocess.run(  # noqa: S603 - our own command
            [COMMAND, *arguments, "--json"],
            env=self.of(role),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{role} {arguments}: {done.stderr}"
        return json.loads(done.stdout)

    @contextmanager
    def worker(self) -> Iterator[Service]:
        """Run the service as the worker."""
        with subprocess.Popen(  # noqa: S603 - our own command
            [COMMAND, "run"], env=self.of("Worker"), stderr=subprocess.PIPE
        ) as process:
            try:
                yield Service(process)
            finally:
                if process.poll() is None:
                    process.kill()

    def records(self) -> list[dict[str, Any]]:
        """Read the whole table of acceptances."""
        items = self.client("dynamodb").scan(TableName=self.users, ConsistentRead=True)["Items"]
        return sorted(items, key=lambda item: str(item["user_id"]["S"]))

    def depth(self, url: str) -> int:
        """Count what is in a queue."""
        answer = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        attributes = answer["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(attributes[name]) for name in names)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("certificates")
    _, trusted = make_chain(folder)
    with ministack(enforce_policies=True, certificate=folder / "chain.pem") as url:
        yield Deployed(url, trusted)


def _lines() -> str:
    good = [acceptance(number, ip="203.0.113.7") for number in range(12)]
    early = [acceptance(number, version="2026-02") for number in (12, 13)]
    return "\n".join([*map(json.dumps, good + early), "not JSON"])


def test_every_verb_does_its_work_under_its_role_alone(deployed: Deployed, tmp_path: Path) -> None:
    terms = tmp_path / "aup.html"
    terms.write_text("be kind")
    deployed.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    publish = ("policy", "publish", "--policy", "aup", "--file", str(terms), "--version")
    deployed.run("Publisher", *publish, "2026-01")
    with deployed.worker() as service:
        assert deployed.run("Producer", "push", "--no-validate", stdin=_lines())["sent"] == 15
        wait_until(lambda: len(deployed.records()) == 12, "recorded")
        wait_until(lambda: deployed.depth(deployed.dead) == 3, "dead")
        deployed.run("Publisher", *publish, "2026-02")
        assert len(deployed.run("Publisher", "policy", "list")) == 2
        assert len(deployed.run("Replayer", "dead-letters", "list")["dead_letters"]) == 3
        replay = ("replay", "--reason", "unknown_policy")
        deployed.run("Replayer", *replay, "--dry-run")
        assert deployed.run("Replayer", *replay)["replayed"] == 2
        wait_until(lambda: len(deployed.records()) == 14, "replayed and recorded")
        wait_until(lambda: deployed.depth(deployed.queue) == 0, "settled")
        code, figures = service.end(signal.SIGTERM)
    assert (code, figures["recorded"], figures["dead_lettered"]) == (0, 14, 3)
    assert deployed.run("Replayer", "status")["dead_letters"]["visible"] == 1
    export = tmp_path / "u-1.json"
    assert deployed.run("Auditor", "accepted", "u-1", "--verify", "--export", str(export))["sound"]
    assert deployed.run("Auditor", "accepted", "u-12", "--policy", "aup")
    of_version = ("--policy", "aup", "--version", "2026-01")
    assert deployed.run("Auditor", "coverage", *of_version, "--yes")["users"] == 12
    deployed.run("Eraser", "erase", "u-1", "--fields", "ip", "--yes")
    assert sum("ip" in record for record in deployed.records()) == 11
    deployed.run("Publisher", "policy", "retire", "--policy", "aup", "--version", "2026-02")


def _denied(deployed: Deployed) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Give role, service, call and arguments of what must be refused."""
    key = {"user_id": {"S": "u-x"}, "policy_version": {"S": "aup#2026-01"}}
    users = {"TableName": deployed.users}
    policies = {"TableName": deployed.policies}
    update = {
        "Key": key,
        "UpdateExpression": "SET ip = :v",
        "ExpressionAttributeValues": {":v": {"S": "x"}},
    }
    query = {
        "KeyConditionExpression": "user_id = :u",
        "ExpressionAttributeValues": {":u": {"S": "u-x"}},
    }
    put = {"PutRequest": {"Item": key}}
    everybody = (*PEOPLE, "Worker")
    for role in everybody:
        yield role, "dynamodb", "put_item", {**users, "Item": key}
        yield role, "dynamodb", "delete_item", {**users, "Key": key}
        yield role, "dynamodb", "batch_write_item", {"RequestItems": {deployed.users: [put]}}
        yield role, "dynamodb", "delete_table", users
        yield role, "dynamodb", "delete_table", policies
        yield role, "dynamodb", "update_table", {**users, "DeletionProtectionEnabled": False}
        for url in (deployed.queue, deployed.dead):
            yield role, "sqs", "purge_queue", {"QueueUrl": url}
            yield role, "sqs", "delete_queue", {"QueueUrl": url}
            attributes = {"MessageRetentionPeriod": "60"}
            yield role, "sqs", "set_queue_attributes", {"QueueUrl": url, "Attributes": attributes}
    for role in set(everybody) - {"Eraser"}:
        yield role, "dynamodb", "update_item", {**users, **update}
    for role in set(everybody) - {"Auditor"}:
        yield role, "dynamodb", "scan", users
    for role in ("Worker", "Producer", "Replayer", "Publisher"):
        yield role, "dynamodb", "query", {**users, **query}
    for role in set(everybody) - {"Publisher"}:
        item = {"policy_id": {"S": "aup"}, "version": {"S": "2027"}}
        yield role, "dynamodb", "put_item", {**policies, "Item": item}
    for role in set(everybody) - {"Worker"}:
        yield role, "sqs", "receive_message", {"QueueUrl": deployed.queue}
    for role in set(everybody) - {"Replayer"}:
        yield role, "sqs", "receive_message", {"QueueUrl": deployed.dead}
    for role in set(everybody) - {"Producer", "Replayer"}:
        yield role, "sqs", "send_message", {"QueueUrl": deployed.queue, "MessageBody": "x"}
    for role in set(everybody) - {"Worker"}:
        yield role, "sqs", "send_message", {"QueueUrl": deployed.dead, "MessageBody": "x"}


def test_whatever_else_a_role_tries_is_refused(deployed: Deployed) -> None:
    before = deployed.records(), deployed.depth(deployed.queue), deployed.depth(deployed.dead)
    permitted = []
    clients: dict[tuple[str, str], Any] = {}
    tried = 0
    for role, service, call, arguments in _denied(deployed):
        if (role, service) not in clients:
            clients[role, service] = deployed.client(service, deployed.credentials(role))
        tried += 1
        try:
            getattr(clients[role, service], call)(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}:
                continue
        permitted.append((role, call, arguments))
    assert not permitted
    assert tried > 100
    assert before == (
        deployed.records(), deployed.depth(deployed.queue), deployed.depth(deployed.dead)
    )  # fmt: skip


def test_nobody_but_an_ecs_task_takes_the_role_of_the_worker(deployed: Deployed) -> None:
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        deployed.client("sts").assume_role(
            RoleArn=deployed.outputs["WorkerRoleArn"], RoleSessionName="test"
        )


def test_a_queue_refuses_plain_http_whoever_asks(request: pytest.FixtureRequest) -> None:
    stacks = Stacks(running_servers(request.config).url("ministack_enforcing"))
    outputs = stacks.deploy("data", "aup-plain", Name="plain")
    sqs = stacks.client("sqs")
    for url in (outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]):
        with pytest.raises(ClientError, match="AccessDenied"):
            sqs.send_message(QueueUrl=url, MessageBody="x")


def test_the_roles_are_those_that_are_tested_here() -> None:
    roles = {each.removesuffix("Role") for each in resources("roles", "AWS::IAM::Role")}
    assert roles == {*PEOPLE, "Worker"}
