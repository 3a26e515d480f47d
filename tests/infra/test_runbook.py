"""infra/runbook.md: its sections, and its commands run as documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.documents import Document, commands
from tests.infra.documented import run, variables
from tests.infra.stacks import Stacks, resources
from tests.infra.test_templates import IMAGE
from tests.process.environment import body
from tests.process.kept_demo import run_worker
from tests.servers.launch import ministack

RUNBOOK: Final = Document("infra/runbook.md")
ALARMS: Final = "## Alarms"
PROCEDURES: Final = "## Procedures"
# Beginnings of the commands that no emulator runs, each with the reason.
ONLY_ON_AWS: Final = {
    "aws application-autoscaling": "ministack has no application auto scaling",
    "aws cloudformation deploy --stack-name aup-audit": "ministack creates no trail",
}
# Sections whose commands with the prompt of root run on the host of tests/infra/test_systemd.py.
ON_HOSTS: Final = ("### Pause and resume", "### Roll back a release")
KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
USERS: Final = range(40, 50)


def _headings(section: str) -> list[str]:
    return re.findall(r"^### (.+)$", RUNBOOK.section(section), re.MULTILINE)


def _is_emulated(command: str) -> bool:
    return not command.startswith(tuple(ONLY_ON_AWS))


def _emulated(section: str) -> list[str]:
    text = RUNBOOK.text[: RUNBOOK.text.index(ALARMS)] if not section else RUNBOOK.section(section)
    return [each for each in commands(text, ("$ ",)) if _is_emulated(each)]


def test_every_alarm_has_a_section_and_every_section_an_alarm() -> None:
    alarms = resources("alarms", "AWS::CloudWatch::Alarm")
    assert sorted(_headings(ALARMS)) == sorted(alarms)
    for name, alarm in alarms.items():
        assert f"infra/runbook.md#{name.lower()}" in alarm["AlarmDescription"]


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


def test_every_command_of_the_runbook_is_run_or_an_exception() -> None:
    sections = [*_headings(ALARMS), *_headings(PROCEDURES)]
    found = [*_emulated(""), *(each for name in sections for each in _emulated(f"### {name}"))]
    every = commands(RUNBOOK.text, ("$ ",))
    assert found == [each for each in every if _is_emulated(each)]
    on_hosts = [each for name in ON_HOSTS for each in commands(RUNBOOK.section(name), ("# ",))]
    assert on_hosts == commands(RUNBOOK.text, ("# ",))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Deploy the service, record acceptances, and yield the environment of an operator."""
    with ministack() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
        stacks.deploy("data")
        stacks.deploy("roles")
        stacks.deploy("service", VpcId=vpc, SubnetIds=subnet, Image=IMAGE)
        home = tmp_path_factory.mktemp("home")
        environment = variables(url, home) | {"VPC": vpc, "SUBNETS": subnet}
        printed = run([*_emulated(""), "env"], environment).stdout
        environment |= dict(re.findall(r"^((?:AUP_|AWS_|LOGS)\w*)=(.*)$", printed, re.MULTILINE))
        _record_acceptances(stacks, environment)
        # In a file, because variables with keys take precedence over a profile.
        keys = [f"{each.lower()}={environment.pop(each)}" for each in KEYS]
        (home / ".aws").mkdir()
        (home / ".aws" / "credentials").write_text("\n".join(["[default]", *keys, ""]))
        yield environment


def _record_acceptances(stacks: Stacks, environment: dict[str, str]) -> None:
    publish = "aup-worker policy publish --policy acceptable-use --version 2026-01 --file LICENSE"
    run([publish], environment)
    sqs = stacks.client("sqs")
    queue = environment["AUP_QUEUE"]
    for each in [*(body(number, policy_id="acceptable-use") for number in USERS), "{"]:
        sqs.send_message(QueueUrl=queue, MessageBody=each)
    with pytest.MonkeyPatch.context() as patch:
        for name in KEYS:
            patch.setenv(name, environment[name])
        run_worker(environment | {"AUP_QUEUE": queue.rpartition("/")[2], "AUP_WAIT_SECONDS": "1"})


@pytest.mark.servers
@pytest.mark.timeout(240)
def test_commands_of_every_section_succeed(deployed: dict[str, str], tmp_path: Path) -> None:
    # One test, because each process of pytest-xdist would deploy the service again.
    failures = []
    for number, heading in enumerate([*_headings(ALARMS), *_headings(PROCEDURES)]):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "infra").symlink_to(RUNBOOK.path.parent)
        try:
            printed = run(_emulated(f"### {heading}"), deployed, directory).stdout
            assert heading != "Take on a role" or ":assumed-role/" in printed
        except AssertionError as failure:
            failures.append(f"{heading}: {failure}")
    assert not failures, "\n".join(failures)
