"""The commands for ECS in infra/README.md, run as documented."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.infra.stacks import Stacks
from tests.process.environment import COMMAND, DEADLINE_SECONDS
from tests.servers.launch import aws_command, ministack

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
HEADING = "## ECS"
# The emulator supports neither application auto scaling nor alarms on metric math.
NOT_EMULATED = ("scaling.yaml", "alarms.yaml")


def _commands() -> list[str]:
    readme = (ROOT / "infra" / "README.md").read_text()
    block = re.search(r"```console\n(.*?)```", readme[readme.index(HEADING) :], re.DOTALL)
    assert block
    # Each command ends with its last line; its output follows.
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block[1], re.MULTILINE)
    return [each for each in commands if not any(name in each for name in NOT_EMULATED)]


def test_documented_commands_deploy_the_service_and_send_an_acceptance(tmp_path: Path) -> None:
    commands = _commands()
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        programs = (aws_command().parent, Path(COMMAND).parent)
        done = subprocess.run(  # noqa: S603 - commands of the document
            ["/bin/sh", "-ec", "\n".join(commands)],
            cwd=ROOT,
            env={
                "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
                "HOME": str(tmp_path),
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "IMAGE": "registry.example/aup-worker@sha256:" + "ab" * 32,
                "VPC": vpc,
                "SUBNETS": subnet,
            },
            capture_output=True,
            text=True,
            timeout=2 * DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for stack in ("aup-data", "aup-roles", "aup-service"):
            assert f"Successfully created/updated stack - {stack}" in done.stdout
        queues = stacks.client("sqs").list_queues(QueueNamePrefix="aup-acceptances")["QueueUrls"]
        depths = [
            stacks.client("sqs").get_queue_attributes(QueueUrl=each, AttributeNames=["All"])
            for each in sorted(queues, key=len)
        ]
        assert [each["Attributes"]["ApproximateNumberOfMessages"] for each in depths] == ["1", "0"]
