"""The commands for ECS in infra/README.md, run as documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents import Document, commands
from tests.infra.documented import run, variables
from tests.infra.stacks import Stacks
from tests.servers.launch import ministack

pytestmark = pytest.mark.servers

HEADING = "## ECS"
# The emulator has neither application auto scaling nor alarms on metric math, it scans no image,
# and a task that it runs never stops.
NOT_EMULATED = (
    "scaling.yaml",
    "alarms.yaml",
    "ecs wait tasks-stopped",
    "describe-image-scan-findings",
)


# Stands in for Docker: remembers its commands, and puts an image into the registry on a push.
ENGINE = """#!/bin/sh -e
echo "$@" >>"$HOME/engine"
case "$*" in
login*) test -n "$(cat)";;
*--push*)
    tag=$(expr "$*" : '.*--tag [^ ]*:\\([^ ]*\\)')
    aws ecr put-image --repository-name aup-worker --image-tag "$tag" \
        --image-manifest "{\\"schemaVersion\\": 2, \\"tag\\": \\"$tag\\"}";;
esac
"""


def _commands() -> list[str]:
    section = Document("infra/README.md").section(HEADING)
    return [
        command
        for command in commands(section)
        if not any(name in command for name in NOT_EMULATED)
    ]


def test_documented_commands_deploy_the_service_and_send_an_acceptance(tmp_path: Path) -> None:
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        environment = variables(url, tmp_path, engine.parent)
        environment |= {"ENGINE": "docker", "VPC": vpc, "SUBNETS": subnet}
        done = run(_commands(), environment)
        for stack in ("aup-data", "aup-roles", "aup-service"):
            assert f"Successfully created/updated stack - {stack}" in done.stdout
        assert done.stdout.count("Successfully created/updated stack - aup-service") == 3
        first, second, third = re.findall(
            r"^\+ command aws .* Image=(\S+)", done.stderr, re.MULTILINE
        )
        assert first == third != second
        task = stacks.client("ecs").describe_task_definition(taskDefinition="aup-service")
        assert task["taskDefinition"]["containerDefinitions"][0]["image"] == first
        built = (tmp_path / "engine").read_text()
        assert built.count("buildx build --platform linux/amd64,linux/arm64") == 2
        queues = stacks.client("sqs").list_queues(QueueNamePrefix="aup-acceptances")["QueueUrls"]
        depths = [
            stacks.client("sqs").get_queue_attributes(QueueUrl=each, AttributeNames=["All"])
            for each in sorted(queues, key=len)
        ]
        assert [each["Attributes"]["ApproximateNumberOfMessages"] for each in depths] == ["1", "0"]
