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
    readme = (ROOT / "infra" / "README.md").read_text()
    section = readme[readme.index(HEADING) :]
    section = section[: section.index("\n## ")]
    # Each command ends with its last line; its output follows.
    return [
        command
        for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL)
        for command in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE)
        if not any(name in command for name in NOT_EMULATED)
    ]


def test_documented_commands_deploy_the_service_and_send_an_acceptance(tmp_path: Path) -> None:
    commands = _commands()
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text(ENGINE)
    engine.chmod(0o755)
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        programs = (engine.parent, aws_command().parent, Path(COMMAND).parent)
        done = subprocess.run(  # noqa: S603 - commands of the document
            ["/bin/sh", "-exc", "\n".join(commands)],
            cwd=ROOT,
            env={
                "PATH": ":".join([*map(str, programs), os.environ["PATH"]]),
                "HOME": str(tmp_path),
                "AWS_ENDPOINT_URL": url,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "ENGINE": "docker",
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
        assert done.stdout.count("Successfully created/updated stack - aup-service") == 3
        first, second, third = re.findall(r" Image=(\S+)", done.stderr)
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
