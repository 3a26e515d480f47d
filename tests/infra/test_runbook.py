"""infra/runbook.md: its sections, and its commands run as documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.documents import Document, commands
from tests.infra.documented import run, variables
from tests.infra.stacks import Stacks, resources
from tests.infra.test_templates import IMAGE
from tests.process.kept_demo import run_worker
from tests.servers.launch import ministack

RUNBOOK: Final = Document("infra/runbook.md")
ALARMS: Final = "## Alarms"
PROCEDURES: Final = "## Procedures"
# Beginnings of the commands that no emulator runs, each with the reason.
ONLY_ON_AWS: Final = {
    "aws application-autoscaling": "ministack has no application auto scaling",
    "aws ecs update-task-protection": "ministack has no task protection",
    "aws cloudformation deploy --stack-name aup-audit": "ministack creates no trail",
}
# They run on the host of tests/infra/test_systemd.py.
ON_HOSTS: Final = ("# ",)


def _headings(section: str) -> list[str]:
    return re.findall(r"^### (.+)$", RUNBOOK.section(section), re.MULTILINE)


def _is_emulated(command: str) -> bool:
    return not command.startswith(tuple(ONLY_ON_AWS))


def _emulated(section: str) -> list[str]:
    text = RUNBOOK.text[: RUNBOOK.text.index(ALARMS)] if not section else RUNBOOK.section(section)
    return [each for each in commands(text, ("$ ",)) if _is_emulated(each)]


def test_every_alarm_has_a_section_and_every_section_an_alarm() -> None:
    assert sorted(_headings(ALARMS)) == sorted(resources("alarms", "AWS::CloudWatch::Alarm"))


@pytest.mark.parametrize("alarm", _headings(ALARMS))
def test_section_of_an_alarm_has_its_four_parts(alarm: str) -> None:
    section = RUNBOOK.section(f"### {alarm}")
    assert re.findall(r"^\*\*(Meaning|First look|Fix|Escalate)", section, re.MULTILINE) == [
        "Meaning", "First look", "Fix", "Escalate",
    ]  # fmt: skip
    assert commands(section), "a first look is a command"


def test_runbook_has_every_procedure() -> None:
    assert _headings(PROCEDURES) == [
        "Take on a role",
        "Pause and resume",
        "Roll back a release",
        "Restore from point-in-time recovery",
        "Rotate keys",
        "Loss of a Region",
        "Retention and legal hold",
        "Redeploy after ROLLBACK_COMPLETE",
    ]
    assert "(runbook.md)" in Document("infra/operations.md").text[:1000]


def test_every_exception_from_running_is_a_command_of_the_runbook() -> None:
    found = commands(RUNBOOK.text, ("$ ",))
    for beginning in ONLY_ON_AWS:
        assert any(each.startswith(beginning) for each in found), beginning


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stacks, dict[str, str]]]:
    """Deploy the service on an emulator, and record an acceptance and dead-letter another."""
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        stacks.deploy("data")
        stacks.deploy("roles")
        stacks.deploy("service", VpcId=vpc, SubnetIds=subnet, Image=IMAGE)
        environment = variables(url, tmp_path_factory.mktemp("home"))
        environment |= {"VPC": vpc, "SUBNETS": subnet}
        _record_acceptances(stacks, environment)
        yield stacks, environment


def _record_acceptances(stacks: Stacks, environment: dict[str, str]) -> None:
    publish = "aup-worker policy publish --policy acceptable-use --version 2026-01 --file LICENSE"
    push = "aup-worker push --policy acceptable-use --version 2026-01 --user"
    run([*_emulated(""), publish, *(f"{push} u-{number}" for number in range(40, 50))], environment)
    sqs = stacks.client("sqs")
    queue = sqs.get_queue_url(QueueName="aup-acceptances")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="{")
    names: dict[str, Any] = {
        "AWS_REGION": "us-east-1",
        "AUP_QUEUE": "aup-acceptances",
        "AUP_DEAD_LETTER_QUEUE": "aup-acceptances-dead",
        "AUP_TABLE_NAME": "aup-policies",
        "AUP_USER_TABLE_NAME": "aup-acceptances",
    }
    run_worker(environment | names)


@pytest.mark.servers
@pytest.mark.parametrize("heading", [*_headings(ALARMS), *_headings(PROCEDURES)])
def test_commands_of_a_section_succeed(
    deployed: tuple[Stacks, dict[str, str]], heading: str, tmp_path: Path
) -> None:
    _, environment = deployed
    found = _emulated(f"### {heading}")
    (tmp_path / "infra").symlink_to(RUNBOOK.path.parent)
    run([*_emulated(""), *found], environment, tmp_path)
