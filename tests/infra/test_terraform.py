"""The Terraform module: its variables, and its documented commands on an emulator."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.documents import Document, commands
from tests.infra.documented import run, variables
from tests.infra.generate import STACKS, WIRED, derived, parameters
from tests.infra.stacks import INFRA, Stacks, template
from tests.infra.test_templates import IMAGE
from tests.servers.launch import ministack

README: Final = Document("infra/terraform/README.md")
MODULE: Final = INFRA / "terraform"
# Where Terraform looks for providers without a registry, and where images of machines put them.
MIRRORS: Final = (
    Path.home() / ".terraform.d/plugins",
    Path.home() / ".local/share/terraform/plugins",
    Path("/usr/local/share/terraform/plugins"),
    Path("/usr/share/terraform/plugins"),
    *sorted(Path("/opt").glob("*")),
)
# Alarms that the emulator does not have.
WITH_METRIC_MATH: Final = ("OldDeadLetters", "Backlog")
EXAMPLE: Final = "-chdir=infra/terraform/example"
# The provider waits 10 s for each stack.
SECONDS: Final = 400
NEW_IMAGE: Final = IMAGE.replace("ab", "cd")


def _mirror() -> Path | None:
    for mirror in MIRRORS:
        if next(mirror.glob("*/hashicorp/aws/*/*/terraform-provider-aws*"), None):
            return mirror
    return None


def _reason_unavailable() -> str | None:
    if not shutil.which("terraform"):
        return "terraform is not installed"
    if not _mirror():
        return "the AWS provider of Terraform is in no local mirror"
    return None


WITH_TERRAFORM: Final = pytest.mark.skipif(
    _reason_unavailable() is not None, reason=f"not checked: {_reason_unavailable()}"
)


def test_derived_files_are_current() -> None:
    for path, text in derived().items():
        assert path.read_text() == text, f"{path.name}: run make infra-files"


def test_variables_have_the_names_defaults_and_descriptions_of_the_templates() -> None:
    text = (MODULE / "variables.tf").read_text()
    for stack in STACKS:
        block = text.partition(f'variable "{stack}" {{')[2].partition("\n  })\n")[0]
        fields = re.findall(
            r"# (.*)\n    (\w+) = (?:optional\([\w()]+, (.*)\)|[\w()]+)$", block, re.MULTILINE
        )
        assert [name for _, name, _ in fields] == list(parameters(stack))
        for description, name, default in fields:
            parameter = parameters(stack)[name]
            assert parameter["Description"].startswith(description)
            if "Default" not in parameter:
                assert not default, name
                continue
            value = json.loads(default)
            expected = parameter["Default"]
            if isinstance(value, list):
                assert (value, expected) == ([], "none")
            else:
                assert (value if isinstance(value, str) else json.dumps(value)) == str(expected)


def test_every_parameter_of_a_template_is_set_and_every_output_exists() -> None:
    stacks, outputs = (MODULE / "stacks.tf").read_text(), (MODULE / "outputs.tf").read_text()
    for stack in STACKS:
        block = stacks.partition(f'"aws_cloudformation_stack" "{stack}" {{')[2].partition("\n}\n")[
            0
        ]
        names = re.findall(r"^    (\w+) += ", block.partition("parameters")[2], re.MULTILINE)
        read = template(stack)
        assert [each for each in names if each not in {"create", "update"}] == [*read["Parameters"]]
        found = re.findall(rf'\.{stack}\S*\.outputs\["(\w+)"\]', outputs)
        assert {*found} <= read.get("Outputs", {}).keys()
    assert {stack for stack, _ in WIRED} == {*STACKS}


def _copy(directory: Path) -> None:
    """Copy infra/ without the resources that the emulator has not."""
    shutil.copytree(INFRA, directory / "infra", ignore=shutil.ignore_patterns(".terraform*"))
    (directory / "LICENSE").symlink_to(INFRA.parent / "LICENSE")
    scaling, alarms = template("scaling"), template("alarms")
    scaling["Resources"] = {"Nothing": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}
    for each in WITH_METRIC_MATH:
        del alarms["Resources"][each]
    for name, read in (("scaling", scaling), ("alarms", alarms)):
        (directory / "infra" / f"{name}.yaml").write_text(json.dumps(read))


def _offline() -> dict[str, str]:
    """Return variables of Terraform with which it queries no registry and asks for nothing."""
    return {
        "TF_CLI_CONFIG_FILE": os.devnull,
        "TF_CLI_ARGS": "-no-color",
        "TF_CLI_ARGS_init": f"-plugin-dir={_mirror()}",
        "TF_CLI_ARGS_apply": "-auto-approve",
        "TF_CLI_ARGS_destroy": "-auto-approve",
        "TF_INPUT": "0",
        "CHECKPOINT_DISABLE": "1",
    }


def _environment(url: str, directory: Path) -> dict[str, str]:
    """Create a network, and return what the documented commands expect in the environment."""
    ec2 = Stacks(url).client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"]
        for block in ("10.0.0.0/24", "10.0.1.0/24")
    ]
    return (
        variables(url, directory)
        | _offline()
        | {
            "AWS_REGION": "us-east-1",
            "VPC": vpc,
            "SUBNETS": ",".join(subnets),
            "IMAGE": IMAGE,
            "NEW_IMAGE": NEW_IMAGE,
            "REPOSITORY_ARN": "arn:aws:ecr:us-east-1:000000000000:repository/aup-worker",
            "TOPIC": "arn:aws:sns:us-east-1:000000000000:alarms",
        }
    )


@pytest.mark.servers
@WITH_TERRAFORM
@pytest.mark.timeout(SECONDS)
def test_module_passes_its_own_tests(tmp_path: Path) -> None:
    _copy(tmp_path)
    module = "-chdir=infra/terraform"
    environment = variables("", tmp_path) | _offline()
    done = run(
        [f"terraform {module} init", f"terraform {module} test"], environment, tmp_path, SECONDS
    )
    assert "5 passed, 0 failed" in done.stdout


@pytest.mark.servers
@WITH_TERRAFORM
@pytest.mark.timeout(3 * SECONDS)
def test_documented_commands_apply_change_and_destroy_the_module(tmp_path: Path) -> None:
    _copy(tmp_path)
    documented = commands(README.text)
    exports, adopt, destroy = documented[:2], documented[-2], documented[-1]
    assert (" import " in adopt, destroy.endswith("destroy")) == (True, True)
    with ministack() as url:
        stacks, environment = Stacks(url), _environment(url, tmp_path)
        checks = [f"terraform {EXAMPLE} init", f"terraform {EXAMPLE} validate"]
        run(["terraform fmt -check -recursive infra/terraform", *checks], environment, tmp_path)
        done = run(documented[:-2], environment, tmp_path, SECONDS)
        assert "5 added, 0 changed, 0 destroyed" in done.stdout
        assert "0 added, 1 changed, 0 destroyed" in done.stdout
        assert done.stdout.count("No changes. Your infrastructure matches") == 1
        task = stacks.client("ecs").describe_task_definition(taskDefinition="aup-service")
        [container] = task["taskDefinition"]["containerDefinitions"]
        assert container["image"] == NEW_IMAGE
        stack = adopt.split()[-2]
        adopted = run(
            [*exports, f"terraform {EXAMPLE} state rm {stack}", adopt, f"terraform {EXAMPLE} plan"],
            environment | {"IMAGE": NEW_IMAGE},
            tmp_path,
        )
        assert "Plan: 0 to add, 1 to change, 0 to destroy" in adopted.stdout
        destroyed = run([*exports, destroy], environment, tmp_path)
        assert "5 destroyed" in destroyed.stdout
        _assert_evidence_is_kept(stacks)


def _assert_evidence_is_kept(stacks: Stacks) -> None:
    sqs = stacks.client("sqs")
    queue = sqs.get_queue_url(QueueName="aup-acceptances")["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "1"
    tables = stacks.client("dynamodb").list_tables()["TableNames"]
    assert {*tables} == {"aup-acceptances", "aup-policies"}
