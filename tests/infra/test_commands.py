"""The commands for ECS in infra/README.md, run as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import Document, blocks, commands
from tests.infra.documented import run, variables
from tests.infra.stacks import Stacks
from tests.servers.launch import ministack

pytestmark = pytest.mark.servers

HEADING = "## ECS"
# The emulator supports neither application auto scaling nor alarms on metric math.
NOT_EMULATED = ("scaling.yaml", "alarms.yaml")


def _commands() -> list[str]:
    block = blocks(Document("infra/README.md").section(HEADING), "console")[0]
    found = commands(f"```console\n{block}```\n")
    return [each for each in found if not any(name in each for name in NOT_EMULATED)]


def test_documented_commands_deploy_the_service_and_send_an_acceptance(tmp_path: Path) -> None:
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        image = "registry.example/aup-worker@sha256:" + "ab" * 32
        network = {"IMAGE": image, "VPC": vpc, "SUBNETS": subnet}
        printed = run(_commands(), variables(url, tmp_path) | network)
        for stack in ("aup-data", "aup-roles", "aup-service"):
            assert f"Successfully created/updated stack - {stack}" in printed
        queues = stacks.client("sqs").list_queues(QueueNamePrefix="aup-acceptances")["QueueUrls"]
        depths = [
            stacks.client("sqs").get_queue_attributes(QueueUrl=each, AttributeNames=["All"])
            for each in sorted(queues, key=len)
        ]
        assert [each["Attributes"]["ApproximateNumberOfMessages"] for each in depths] == ["1", "0"]
