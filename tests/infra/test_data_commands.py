"""The procedures of infra/data.md, run as documented."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.documents import Document, commands
from tests.infra.documented import run, variables
from tests.infra.stacks import INFRA, Stacks, resources
from tests.process.environment import Service, wait_until
from tests.process.forked import Fork
from tests.servers.launch import ministack

pytestmark = [pytest.mark.servers, pytest.mark.timeout(240)]

IMAGE: Final = "registry.example/aup-worker@sha256:" + "ab" * 32
DOCUMENT: Final = Document("infra/data.md")


@dataclass(frozen=True)
class Account:
    """An account on the emulator, and the shell of its operator."""

    stacks: Stacks
    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its programs."""
        return variables(self.stacks.url, self.directory)

    def run(self, *lines: str, **changes: str) -> str:
        """Run commands in one shell until the first that fails, and return the output."""
        return run([*lines], self.environment | changes, self.directory).stdout

    def resources(self, stack: str) -> set[str]:
        """Return the logical ids of the resources in a stack."""
        response = self.stacks.client("cloudformation").describe_stack_resources(StackName=stack)
        return {each["LogicalResourceId"] for each in response["StackResources"]}


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    (tmp_path / "infra").symlink_to(INFRA)
    with ministack() as url:
        yield Account(Stacks(url), tmp_path)


def _section(heading: str, start: str = "", end: str = "") -> list[str]:
    """Return the commands of a section, between two texts."""
    text = DOCUMENT.section(heading)
    return commands(text[text.index(start) if start else 0 : text.index(end) if end else None])


def _put_record(account: Account) -> dict[str, Any]:
    item = {"user_id": {"S": "u-1"}, "policy_version": {"S": "aup#2026-01"}, "ip": {"S": "x"}}
    account.stacks.client("dynamodb").put_item(TableName="aup-acceptances", Item=item)
    return item


def _records(account: Account, table: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = account.stacks.client("dynamodb").scan(TableName=table)["Items"]
    return items


def test_tables_that_a_failed_deployment_left_are_imported(account: Account) -> None:
    # What the rollback of a first deployment leaves: tables, no queues.
    account.stacks.deploy("data")
    account.stacks.client("cloudformation").delete_stack(StackName="aup-data")
    sqs = account.stacks.client("sqs")
    for url in sqs.list_queues()["QueueUrls"]:
        sqs.delete_queue(QueueUrl=url)
    record = _put_record(account)
    account.run(*_section("## Import retained resources", end="After the deletion"))
    assert account.resources("aup-data") >= {"UsersTable", "PoliciesTable", "Queue", "QueuePolicy"}
    assert _records(account, "aup-acceptances") == [record]
    assert len(sqs.list_queues()["QueueUrls"]) == 2


def test_resources_that_a_deleted_stack_left_are_imported(account: Account) -> None:
    account.stacks.deploy("data")
    cloudformation = account.stacks.client("cloudformation")
    cloudformation.delete_stack(StackName="aup-data")
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName="aup-data", WaiterConfig={"Delay": 1}
    )
    record = _put_record(account)
    sqs = account.stacks.client("sqs")
    url = sqs.get_queue_url(QueueName="aup-acceptances")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="kept")
    account.run(*_section("## Import retained resources", start="After the deletion"))
    assert account.resources("aup-data") >= {"UsersTable", "DeadLetterQueue", "Queue"}
    assert _records(account, "aup-acceptances") == [record]
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "kept"


def _network(account: Account) -> dict[str, str]:
    ec2 = account.stacks.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    return {"VPC": vpc, "CIDR": "10.0.0.0/16", "SUBNETS": subnet, "ROUTES": routes}


def _set_resource_policies(account: Account) -> None:
    """Set the policies that the template gives its tables, which the emulator does not create."""
    dynamodb = account.stacks.client("dynamodb")
    for properties in resources("data", "AWS::DynamoDB::Table").values():
        name = properties["TableName"]["Fn::Sub"].replace("${Name}", "aup")
        arn = dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
        document = properties["ResourcePolicy"]["PolicyDocument"]
        [statement] = document["Statement"]
        document = {**document, "Statement": [{**statement, "Resource": arn}]}
        dynamodb.put_resource_policy(ResourceArn=arn, Policy=json.dumps(document))


def _record_acceptances(account: Account) -> None:
    """Publish a policy, push two acceptances, and run the service until it has recorded them."""
    outputs = account.stacks.outputs
    account.run(
        outputs["Environment"],
        "aup-worker policy publish --policy aup --version 1 --file infra/data.md",
        "aup-worker push --user u-1 --policy aup --version 1",
        "aup-worker push --user u-2 --policy aup --version 1",
    )
    settings = dict(each.split("=", 1) for each in outputs["Environment"].split()[1:])
    environment = {**account.environment, **settings, "AUP_WAIT_SECONDS": "1"}
    with Fork(["run"], environment, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: len(_records(account, "aup-acceptances")) == 2, "recorded")
            Service(process).end(signal.SIGTERM)
        finally:
            if process.poll() is None:
                process.kill()


def test_restored_table_is_verified_and_adopted(account: Account) -> None:
    network = _network(account)
    account.stacks.deploy("data")
    account.stacks.deploy("roles")
    account.stacks.deploy(
        "service", Image=IMAGE, VpcId=network["VPC"], SubnetIds=network["SUBNETS"]
    )
    _set_resource_policies(account)
    _record_acceptances(account)
    procedure = _section("## Restore")
    output = account.run(*procedure, TIME="2026-11-26T12:00:00Z")
    assert output.count("sound") == 2
    arn = _assert_protected(account, "aup-acceptances-restored")
    _assert_used(account, arn)
    assert account.resources("aup-data") >= {"UsersTable", "Queue"}
    assert account.resources("aup-data-restored") == {"Nothing"}
    verification = ("eval", "aws dynamodb scan", "xargs")
    # A sample with an altered record is refused.
    account.stacks.client("dynamodb").update_item(
        TableName="aup-acceptances-restored",
        Key={"user_id": {"S": "u-2"}, "policy_version": {"S": "aup#1"}},
        UpdateExpression="SET accepted_at = :forged",
        ExpressionAttributeValues={":forged": {"S": "2020-01-01T00:00:00Z"}},
    )
    with pytest.raises(AssertionError, match="altered"):
        account.run(*(each for each in procedure if each.startswith(verification)))


def _assert_protected(account: Account, table: str) -> str:
    """Assert that a table has the settings of the template, and return its ARN."""
    dynamodb = account.stacks.client("dynamodb")
    description = dynamodb.describe_table(TableName=table)["Table"]
    assert description["DeletionProtectionEnabled"] is True
    backups = dynamodb.describe_continuous_backups(TableName=table)
    recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    arn = str(description["TableArn"])
    policy = json.loads(dynamodb.get_resource_policy(ResourceArn=arn)["Policy"])
    [statement] = policy["Statement"]
    assert (statement["Effect"], statement["Resource"]) == ("Deny", arn)
    return arn


def _assert_used(account: Account, arn: str) -> None:
    """Assert that the worker may use a table of acceptances, and no other, and is set to it."""
    iam = account.stacks.client("iam")
    policy = account.stacks.outputs["WorkerPolicyArn"]
    version = iam.get_policy(PolicyArn=policy)["Policy"]["DefaultVersionId"]
    response = iam.get_policy_version(PolicyArn=policy, VersionId=version)
    resources_named = {
        each["Sid"]: each["Resource"] for each in response["PolicyVersion"]["Document"]["Statement"]
    }
    assert resources_named["InsertRecords"] == arn
    task = account.stacks.client("ecs").describe_task_definition(taskDefinition="aup-service")
    [container] = task["taskDefinition"]["containerDefinitions"]
    environment = {each["name"]: each["value"] for each in container["environment"]}
    assert environment["AUP_USER_TABLE_NAME"] == arn.rpartition("/")[2]
    assert environment["AUP_QUEUE"] == account.stacks.outputs["QueueUrl"]


def test_customer_managed_key_is_created_before_what_it_encrypts(account: Account) -> None:
    account.run(*_section("## Customer managed key"))
    [key] = [
        each["KeyArn"]
        for each in account.stacks.client("kms").list_keys()["Keys"]
        if account.stacks.client("kms").get_key_rotation_status(KeyId=each["KeyId"])[
            "KeyRotationEnabled"
        ]
    ]
    sqs = account.stacks.client("sqs")
    for url in sqs.list_queues()["QueueUrls"]:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert attributes["KmsMasterKeyId"] == key
    assert "KeyPolicy" in account.resources("aup-roles")


def test_topics_and_rules_may_deliver_and_plain_http_stays_denied(account: Account) -> None:
    topic = account.stacks.client("sns").create_topic(Name="acceptances")["TopicArn"]
    rule = "arn:aws:events:us-east-1:000000000000:rule/acceptances"
    account.run(*_section("## Other senders"), TOPIC=topic, RULE=rule)
    sqs = account.stacks.client("sqs")
    url = sqs.get_queue_url(QueueName="aup-acceptances")["QueueUrl"]
    response = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    statements = json.loads(response["Attributes"]["Policy"])["Statement"]
    found = {
        each["Sid"]: each.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn")
        for each in statements
    }
    assert found == {
        "RefusePlainHTTP": None,
        "DeliverFromTopics": [topic],
        "DeliverFromRules": [rule],
    }


def test_endpoints_are_created_before_the_service(account: Account) -> None:
    account.stacks.deploy("data")
    account.run(*_section("## Private subnets"), **_network(account))
    endpoints = account.stacks.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    services = {each["ServiceName"].removeprefix("com.amazonaws.us-east-1.") for each in endpoints}
    assert services == {"sqs", "dynamodb", "logs", "ecr.api", "ecr.dkr", "s3"}


def test_every_section_with_commands_is_tested() -> None:
    tested = {
        "## Import retained resources", "## Restore", "## Customer managed key", "## Other senders",
        "## Private subnets",
    }  # fmt: skip
    found = {f"## {each}" for each in re.findall(r"^## (.+)$", DOCUMENT.prose, re.MULTILINE)}
    assert found == tested
