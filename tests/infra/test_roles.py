"""Every verb works with the permissions of its role, and no other action is allowed."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ClientError

from tests.bench.stub.certificates import make_chain
from tests.contract.running import running_servers
from tests.infra.stacks import Stacks, listed, resources
from tests.process import forked
from tests.process.environment import DEADLINE_SECONDS, Service, acceptance, wait_until
from tests.servers.launch import ministack
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import ERASABLE, FORMAT, build_item
from worker.domain.origin import Edit, Origin
from worker.domain.policy import PolicyText

pytestmark = pytest.mark.servers

KEY: Final = {"user_id": {"S": "u-1"}, "policy_version": {"S": "aup#2026-01"}}
ASSUMABLE_ROLES: Final = ("Producer", "Replayer", "Publisher", "Auditor", "Eraser")

# The emulator checks batch actions that do not exist on AWS. The tests grant them to the roles that
# have the action of AWS.
EMULATED_BATCHES: Final = {
    "sqs:SendMessage": "sqs:SendMessageBatch",
    "sqs:DeleteMessage": "sqs:DeleteMessageBatch",
    "sqs:ChangeMessageVisibility": "sqs:ChangeMessageVisibilityBatch",
}
# A record with every attribute, and the attributes that the eraser may name.
RECORD: Final = build_item(
    Acceptance.model_validate(
        {**dict.fromkeys(Acceptance.model_fields, "x"), "accepted_at": "2026-01-01T00:00:00Z",
         "content_sha256": "ab" * 32, "unknown": 1}
    ),
    PolicyText("ab" * 32, "es"),
    Origin.at(datetime.now(UTC), "m-1", "ab" * 32, datetime.now(UTC), (Edit("", "eve", ()),)),
    recorded_at=datetime.now(UTC),
    reductions={"ip": "truncated", "user_agent": "omitted"},
)  # fmt: skip
ERASABLE_ATTRIBUTES: Final = {*ERASABLE, *(f"{name}_salt" for name in ERASABLE)}
VERSION_KEY: Final = {"policy_id": {"S": "aup"}, "version": {"S": "sealed"}}
LANGUAGE_KEY: Final = {"policy_id": {"S": "aup#sealed"}, "version": {"S": "1"}}
TEXT_KEY: Final = {"policy_id": {"S": f"sha256#{'0' * 64}"}, "version": {"S": "text"}}
# Items of the table of policies, and their attributes.
PUBLISHED: Final = (
    (VERSION_KEY, ("title", "content_sha256", "published_at", "effective_at")),
    (LANGUAGE_KEY, ("locale", "content_sha256", "published_at")),
    (TEXT_KEY, ("media_type", "size_bytes", "gzip")),
)


def _arguments(credentials: Mapping[str, str]) -> dict[str, str]:
    """Return credentials as arguments of a boto3 client."""
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


class Deployed(Stacks):
    """Stacks of data and roles, and the installed command under each role."""

    def __init__(self, url: str, trusted: Path) -> None:
        super().__init__(url, trusted)
        self.deploy("data")
        self.deploy("roles")
        # Parsed as a shell would.
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
        self._credentials = {name: self._assume(name) for name in (*ASSUMABLE_ROLES, "Worker")}

    def credentials(self, role: str) -> dict[str, str]:
        """Return the credentials of a role as arguments of a boto3 client."""
        return _arguments(self._credentials[role])

    def variables_of(self, role: str) -> dict[str, str]:
        """Return the environment variables of a role."""
        names = {name.upper(): value for name, value in self.credentials(role).items()}
        return self.environment | names

    def _assume(self, role: str) -> dict[str, str]:
        arn = self.outputs[f"{role}RoleArn"]
        if role == "Worker":
            arn = self._create_assumable_worker_role()
        self._grant_emulated_batches(role, arn.rpartition("/")[2])
        response = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")
        credentials: dict[str, str] = response["Credentials"]
        return credentials

    def _create_assumable_worker_role(self) -> str:
        """Create a role with the policy of the worker that, unlike its role, tests can assume."""
        iam = self.client("iam")
        arn = f"arn:aws:iam::{self.client('sts').get_caller_identity()['Account']}:root"
        trust = {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = iam.create_role(RoleName="twin", AssumeRolePolicyDocument=document)["Role"]
        iam.attach_role_policy(RoleName="twin", PolicyArn=self.outputs["WorkerPolicyArn"])
        return str(role["Arn"])

    def _grant_emulated_batches(self, role: str, name: str) -> None:
        iam = self.client("iam")
        arn = self.outputs[f"{role}PolicyArn"]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        kept = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]
        granted = []
        for statement in kept["Document"]["Statement"]:
            held = set(listed(statement["Action"]))
            if more := [EMULATED_BATCHES[each] for each in EMULATED_BATCHES if each in held]:
                allowed = {"Effect": "Allow", "Action": more, "Resource": statement["Resource"]}
                granted.append(allowed)
        if granted:
            iam.put_role_policy(
                RoleName=name,
                PolicyName="emulator",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": granted}),
            )

    def run(self, role: str, *arguments: str, stdin: str = "") -> Any:
        """Run a verb with a role, and return the JSON that it prints."""
        done = forked.run(
            [*arguments, "--json"],
            environment=self.variables_of(role),
            stdin=stdin.encode(),
            timeout_seconds=DEADLINE_SECONDS,
            constants={},
        )
        assert done.returncode == 0, f"{role} {arguments}: {done.stderr.decode()}"
        return json.loads(done.stdout)

    def run_together(self, *verbs: tuple[str, ...]) -> list[Any]:
        """Run verbs concurrently, each given as a role and its arguments."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda verb: self.run(*verb), verbs))

    @contextmanager
    def worker(self) -> Iterator[Service]:
        """Run the service with the role of the worker until the block ends."""
        variables = self.variables_of("Worker")
        with forked.Fork(["run"], variables, stderr=subprocess.PIPE) as process:
            try:
                yield Service(process)
            finally:
                if process.poll() is None:
                    process.kill()

    def records(self) -> list[dict[str, Any]]:
        """Return all records."""
        items = self.client("dynamodb").scan(TableName=self.users, ConsistentRead=True)["Items"]
        return sorted(items, key=lambda item: str(item["user_id"]["S"]))

    def depth(self, url: str) -> int:
        """Count the messages in a queue."""
        response = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        attributes = response["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return sum(int(attributes[name]) for name in names)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("certificates")
    _, trusted = make_chain(folder)
    certificate = folder / "chain.pem"
    with ministack(
        enforce_policies=True, authorize_statements=True, certificate=certificate
    ) as url:
        yield Deployed(url, trusted)


def _input(spanish: bytes) -> str:
    good = [acceptance(number, ip="203.0.113.7") for number in range(11)]
    good.append(acceptance(11, ip="203.0.113.7", locale="es-MX"))
    # Admitted only by whoever can read the languages of the version.
    stated = {"content_sha256": hashlib.sha256(spanish).hexdigest()}
    unpublished = [acceptance(number, version="2026-02", **stated) for number in (12, 13)]
    return "\n".join([*map(json.dumps, good + unpublished), "not JSON"])


def _read_with_each_role(deployed: Deployed, export: Path) -> Any:
    """Run the verbs that only read; return what `policy show` reported."""
    of_version = ("--policy", "aup", "--version", "2026-01")
    # A scan of dead letters waits for more of them, so the others run at the same time.
    dry_run, policies, shown, evidence, coverage, status = deployed.run_together(
        ("Replayer", "replay", "--reason", "unknown_policy", "--dry-run"),
        ("Publisher", "policy", "list"),
        ("Publisher", "policy", "show", "aup", "2026-01"),
        ("Auditor", "accepted", "u-11", "--policy", "aup", "--verify", "--export", str(export)),
        ("Auditor", "coverage", *of_version, "--yes"),
        ("Replayer", "status"),
    )
    assert dry_run["verdicts"] == {"would succeed": 2}
    assert [len(each["texts"]) for each in policies] == [1, 1]
    assert [each["size_bytes"] for each in shown["stored_texts"]] == [7, 10]
    assert evidence["sound"]
    [text] = json.loads(export.read_text("utf-8"))["texts"].values()
    assert text["content"] == "sé amable"
    assert coverage["users"] == 12
    assert status["queue"]["visible"] == 0
    return shown


def test_every_verb_works_with_the_permissions_of_its_role(
    deployed: Deployed, tmp_path: Path
) -> None:
    terms = tmp_path / "aup.html"
    terms.write_text("be kind")
    spanish = tmp_path / "aup.es.html"
    spanish.write_text("sé amable", encoding="utf-8")
    deployed.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    publish = ("policy", "publish", "--policy", "aup", "--file", str(terms), "--version")
    languages = (*publish[:4], "--file", str(spanish), "--locale", "es", "--version")
    deployed.run("Publisher", *publish, "2026-01")
    for _ in range(2):  # again changes nothing
        deployed.run("Publisher", *languages, "2026-01")
    sent = _input(spanish.read_bytes())
    with deployed.worker() as service:
        assert deployed.run("Producer", "push", "--no-validate", stdin=sent)["sent"] == 15
        wait_until(lambda: len(deployed.records()) == 12, "recorded")
        wait_until(lambda: deployed.depth(deployed.dead) == 3, "dead-lettered")
        deployed.run("Publisher", *publish, "2026-02")
        deployed.run("Publisher", *languages, "2026-02")
        shown = _read_with_each_role(deployed, tmp_path / "u-11.json")
        replay = ("replay", "--reason", "unknown_policy")
        assert deployed.run("Replayer", *replay)["replayed"] == 2
        wait_until(lambda: len(deployed.records()) == 14, "replayed and recorded")
        wait_until(lambda: deployed.depth(deployed.queue) == 0, "settled")
        code, figures = service.end(signal.SIGTERM)
    assert (code, figures["recorded"], figures["dead_lettered"]) == (0, 14, 3)
    deployed.run_together(
        ("Eraser", "erase", "u-1", "--fields", "ip", "--yes"),
        ("Publisher", "policy", "retire", "--policy", "aup", "--version", "2026-02"),
    )
    assert sum("ip" not in record for record in deployed.records()) == 1
    assert {record["record_format"]["S"] for record in deployed.records()} == {FORMAT}
    assert deployed.run("Auditor", "policy", "show", "aup", "2026-01") == shown
    assert deployed.run("Auditor", "accepted", "u-1", "--verify")["sound"]


Call = tuple[str, str, dict[str, Any]]
ALL_ROLES: Final = frozenset({*ASSUMABLE_ROLES, "Worker"})


def _denied_to_all(deployed: Deployed) -> Iterator[Call]:
    """Yield what no role may do: service, call and arguments."""
    users, policies = {"TableName": deployed.users}, {"TableName": deployed.policies}
    put = {"PutRequest": {"Item": KEY}}
    value = {"ExpressionAttributeValues": {":value": {"S": "x"}}}
    for table, key, name in ((users, KEY, "ip"), (policies, VERSION_KEY, "retired_at")):
        update = {"UpdateExpression": f"SET {name} = :value", **value}
        yield "dynamodb", "put_item", {**table, "Item": key}
        yield "dynamodb", "update_item", {**table, "Key": key, **update}
        yield "dynamodb", "delete_item", {**table, "Key": key}
        delete = _statement("DELETE FROM", table["TableName"], "", key)
        yield "dynamodb", "execute_statement", delete
    yield "dynamodb", "batch_write_item", {"RequestItems": {deployed.users: [put]}}
    yield "dynamodb", "delete_table", users
    yield "dynamodb", "delete_table", policies
    yield "dynamodb", "update_table", {**users, "DeletionProtectionEnabled": False}
    for url in (deployed.queue, deployed.dead):
        attributes = {"MessageRetentionPeriod": "60"}
        yield "sqs", "purge_queue", {"QueueUrl": url}
        yield "sqs", "delete_queue", {"QueueUrl": url}
        yield "sqs", "set_queue_attributes", {"QueueUrl": url, "Attributes": attributes}


def _statement(
    verb: str, table: str, changes: str, key: Mapping[str, Any], condition: str = ""
) -> dict[str, Any]:
    """Return the request of a statement that changes one item."""
    where = " AND ".join(f'"{each}" = ?' for each in key)
    return {
        "Statement": f'{verb} "{table}" {changes} WHERE {where}{condition}',
        "Parameters": list(key.values()),
    }


def _set(table: str, key: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the request of an UPDATE that sets one attribute."""
    return _statement("UPDATE", table, f"SET \"{name}\" = 'forged'", key)


def _remove(table: str, key: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the request of an UPDATE that removes one attribute."""
    return _statement("UPDATE", table, f'REMOVE "{name}"', key)


def _insert(table: str, key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request of an INSERT of a key only."""
    names = ", ".join(f"'{name}': ?" for name in key)
    return {
        "Statement": f'INSERT INTO "{table}" VALUE {{{names}}}',
        "Parameters": list(key.values()),
    }


def _allowed_to_some(deployed: Deployed) -> Iterator[tuple[set[str], Call]]:
    """Yield what some roles may do, with these roles."""
    users, policies = {"TableName": deployed.users}, {"TableName": deployed.policies}
    value = {":value": {"S": "u-1"}}
    query = {
        "KeyConditionExpression": "user_id = :value",
        "ExpressionAttributeValues": value,
    }
    source, dead = {"QueueUrl": deployed.queue}, {"QueueUrl": deployed.dead}
    yield {"Eraser"}, ("dynamodb", "execute_statement", _set(deployed.users, KEY, "ip"))
    end = _set(deployed.policies, VERSION_KEY, "retired_at")
    yield {"Publisher"}, ("dynamodb", "execute_statement", end)
    yield {"Worker"}, ("dynamodb", "execute_statement", _insert(deployed.users, KEY))
    yield {"Auditor"}, ("dynamodb", "scan", users)
    yield {"Auditor", "Eraser"}, ("dynamodb", "query", {**users, **query})
    yield {"Auditor", "Worker"}, ("dynamodb", "get_item", {**users, "Key": KEY})
    version = {
        "KeyConditionExpression": "policy_id = :value",
        "ExpressionAttributeValues": value,
    }
    yield {"Publisher", "Auditor"}, ("dynamodb", "query", {**policies, **version})
    for key in (VERSION_KEY, TEXT_KEY, LANGUAGE_KEY):
        readers = {"Publisher", "Auditor", "Worker", "Replayer"}
        yield readers, ("dynamodb", "get_item", {**policies, "Key": key})
        insert = _insert(deployed.policies, key)
        yield {"Publisher"}, ("dynamodb", "execute_statement", insert)
    yield {"Publisher"}, ("dynamodb", "scan", policies)
    yield {"Worker"}, ("sqs", "receive_message", source)
    yield {"Replayer"}, ("sqs", "receive_message", dead)
    yield {"Producer", "Replayer"}, ("sqs", "send_message", {**source, "MessageBody": "x"})
    yield {"Worker"}, ("sqs", "send_message", {**dead, "MessageBody": "x"})


def _denied(deployed: Deployed) -> Iterator[tuple[str, Call]]:
    for call in _denied_to_all(deployed):
        yield from ((role, call) for role in ALL_ROLES)
    for permitted, call in _allowed_to_some(deployed):
        yield from ((role, call) for role in ALL_ROLES - permitted)


def test_every_other_action_of_a_role_is_denied(deployed: Deployed) -> None:
    before = deployed.records(), deployed.depth(deployed.queue), deployed.depth(deployed.dead)
    permitted = []
    clients = {
        (role, service): deployed.client(service, deployed.credentials(role))
        for role in ALL_ROLES
        for service in ("dynamodb", "sqs")
    }
    calls = list(_denied(deployed))
    for role, (service, call, arguments) in calls:
        try:
            getattr(clients[role, service], call)(**arguments)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}:
                continue
        permitted.append((role, call, arguments))
    assert not permitted
    assert len(calls) > 100
    assert before == (
        deployed.records(), deployed.depth(deployed.queue), deployed.depth(deployed.dead)
    )  # fmt: skip


def _code(call: Callable[..., dict[str, Any]], request: Mapping[str, Any]) -> str:
    """Make a call, and return the code of its error, or an empty string."""
    try:
        response = call(**request)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    (response,) = response.get("Responses", [{}])
    return str(response.get("Error", {}).get("Code", ""))


def _naming(
    table: str, key: Mapping[str, Any], name: str, allowed: str
) -> Iterator[dict[str, Any]]:
    """Yield every UPDATE that names an attribute: sets it, removes it, or asks for it."""
    yield _set(table, key, name)
    yield _remove(table, key, name)
    yield _statement("UPDATE", table, f"SET {name} = 'forged'", key)
    yield _statement("UPDATE", table, f'REMOVE "{allowed}" REMOVE "{name}"', key)
    yield _statement("UPDATE", table, f'REMOVE "{allowed}"', key, f' AND "{name}" IS MISSING')


def _assert_all_denied(client: Any, requests: Iterable[dict[str, Any]]) -> None:
    """Assert that statements are denied, alone and in a batch."""
    for request in requests:
        assert _code(client.execute_statement, request).startswith("AccessDenied"), request
        batch = {"Statements": [request]}
        assert _code(client.batch_execute_statement, batch).startswith("AccessDenied"), request


def test_eraser_cannot_name_other_attributes_of_a_record(deployed: Deployed) -> None:
    administrator = deployed.client("dynamodb")
    typed = {name: TypeSerializer().serialize(value) for name, value in RECORD.items()}
    item = {**typed, "user_id": {"S": "u-sealed"}}
    administrator.put_item(TableName=deployed.users, Item=item)
    key = {"user_id": item["user_id"], "policy_version": item["policy_version"]}
    eraser = deployed.client("dynamodb", deployed.credentials("Eraser"))
    forbidden = item.keys() - key.keys() - ERASABLE_ATTRIBUTES
    assert {"record_sha256", "record_id", "extra", "ip_commitment", "ip_reduced"} < forbidden
    for name in sorted({*forbidden, "anything_else"}):
        _assert_all_denied(eraser, _naming(deployed.users, key, name, "ip"))
    found = administrator.get_item(TableName=deployed.users, Key=key, ConsistentRead=True)
    assert found["Item"] == item
    # Allowed attributes succeed, so the denials are due to the attributes.
    for name in sorted(ERASABLE_ATTRIBUTES):
        request = _remove(deployed.users, key, name)
        assert _code(eraser.execute_statement, request) == ""
    administrator.delete_item(TableName=deployed.users, Key=key)


def test_eraser_and_publisher_cannot_create_items_by_an_update(deployed: Deployed) -> None:
    before = deployed.records()
    for role, table, key, name in (
        ("Eraser", deployed.users, KEY, "ip"),
        ("Publisher", deployed.policies, VERSION_KEY, "retired_at"),
    ):
        client = deployed.client("dynamodb", deployed.credentials(role))
        absent = {each: {"S": "absent"} for each in key}
        for request in (_set(table, absent, name), _remove(table, absent, name)):
            assert _code(client.execute_statement, request) == "ConditionalCheckFailedException"
        response = deployed.client("dynamodb").get_item(TableName=table, Key=absent)
        assert "Item" not in response
    assert deployed.records() == before


@pytest.mark.parametrize(("key", "names"), PUBLISHED, ids=["version", "language", "text"])
def test_publisher_cannot_overwrite_what_is_published(
    deployed: Deployed, key: Mapping[str, Any], names: Iterable[str]
) -> None:
    administrator = deployed.client("dynamodb")
    policies = deployed.policies
    item = {**key, **{name: {"S": "as published"} for name in names}}
    administrator.put_item(TableName=policies, Item=item)
    publisher = deployed.client("dynamodb", deployed.credentials("Publisher"))
    for name in (*names, "anything_else"):
        _assert_all_denied(publisher, _naming(policies, key, name, "retired_at"))
    repeated = _insert(policies, key)
    assert _code(publisher.execute_statement, repeated) == "DuplicateItemException"
    found = administrator.get_item(TableName=policies, Key=key, ConsistentRead=True)
    assert found["Item"] == item
    end = _set(policies, key, "retired_at")
    assert _code(publisher.execute_statement, end) == ""
    administrator.delete_item(TableName=policies, Key=key)


def test_only_ecs_tasks_can_assume_the_role_of_the_worker(deployed: Deployed) -> None:
    with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
        deployed.client("sts").assume_role(
            RoleArn=deployed.outputs["WorkerRoleArn"], RoleSessionName="test"
        )


def test_principal_of_one_role_opens_no_other(deployed: Deployed) -> None:
    stacks = Stacks(deployed.url, deployed.trusted)
    other = _create_role(deployed, "data-protection")["Arn"]
    outputs = stacks.deploy("roles", "aup-separate", EraserPrincipal=other)
    sts = stacks.client("sts")
    for role in ASSUMABLE_ROLES:
        arguments = {"RoleArn": outputs[f"{role}RoleArn"], "RoleSessionName": "test"}
        if role == "Eraser":
            with pytest.raises(ClientError, match="not authorized to perform: sts:AssumeRole"):
                sts.assume_role(**arguments)
        else:
            sts.assume_role(**arguments)


def _create_role(deployed: Deployed, name: str) -> dict[str, Any]:
    """Create a role without permissions that the account may assume."""
    account = deployed.client("sts").get_caller_identity()["Account"]
    principal = {"AWS": f"arn:aws:iam::{account}:root"}
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    response = deployed.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
    role: dict[str, Any] = response["Role"]
    return role


def test_named_sender_may_send_and_nothing_else(deployed: Deployed) -> None:
    stacks = Stacks(deployed.url, deployed.trusted)
    roles = [_create_role(deployed, name) for name in ("sender", "stranger")]
    url = stacks.deploy("data", "aup-senders", Name="senders", SenderArns=roles[0]["Arn"])[
        "QueueUrl"
    ]
    sender, stranger = (_assumed(deployed, role["Arn"]) for role in roles)
    assert stacks.client("sqs", sender).send_message(QueueUrl=url, MessageBody="x")["MessageId"]
    for credentials, call, arguments in (
        (sender, "receive_message", {}),
        (sender, "purge_queue", {}),
        (stranger, "send_message", {"MessageBody": "x"}),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(stacks.client("sqs", credentials), call)(QueueUrl=url, **arguments)


def _assumed(deployed: Deployed, arn: str) -> dict[str, str]:
    """Return the credentials of a role as arguments of a boto3 client."""
    response = deployed.client("sts").assume_role(RoleArn=arn, RoleSessionName="test")
    return _arguments(response["Credentials"])


def test_queues_deny_plain_http(request: pytest.FixtureRequest) -> None:
    stacks = Stacks(running_servers(request.config).url("ministack_enforcing"))
    # A named sender does not lift the rule.
    everyone = "arn:aws:iam::000000000000:root"
    outputs = stacks.deploy("data", "aup-plain", Name="plain", SenderArns=everyone)
    sqs = stacks.client("sqs")
    for url in (outputs["QueueUrl"], outputs["DeadLetterQueueUrl"]):
        with pytest.raises(ClientError, match="AccessDenied"):
            sqs.send_message(QueueUrl=url, MessageBody="x")


def test_every_role_of_the_template_is_tested() -> None:
    roles = {each.removesuffix("Role") for each in resources("roles", "AWS::IAM::Role")}
    assert roles == {*ASSUMABLE_ROLES, "Worker"}
