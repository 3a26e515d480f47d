"""The commands of infra/kubernetes/README.md, run as documented."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.documents import Document, blocks, commands
from tests.infra.check_kubernetes import render
from tests.infra.documented import run, variables
from tests.infra.security_audit import tools
from tests.infra.stacks import INFRA, Stacks
from tests.servers.launch import ministack

README: Final = Document("infra/kubernetes/README.md")
# Stands in for kubectl where it needs a cluster: validates what would be applied.
KUBECTL: Final = """#!/bin/sh -e
echo "$@" >>"$HOME/kubectl"
case "$1" in
kustomize) exec {directory}/bin/kubectl "$@";;
apply) {directory}/bin/kubectl kustomize "$3" | {directory}/bin/python {schemas};;
esac
"""

pytestmark = pytest.mark.servers


def test_documented_commands_create_the_role_and_apply_valid_manifests(tmp_path: Path) -> None:
    directory = tools("kubernetes")
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.parent.mkdir()
    schemas = Path(__file__).with_name("kubernetes_schemas.py")
    kubectl.write_text(KUBECTL.format(directory=directory, schemas=schemas))
    kubectl.chmod(0o755)
    shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns(".terraform*"))
    with ministack() as url:
        stacks = Stacks(url)
        stacks.deploy("data")
        stacks.deploy("roles")
        iam, trust = stacks.client("iam"), (INFRA / "kubernetes" / "pod-identity.json").read_text()
        iam.create_role(RoleName="keda-operator", AssumeRolePolicyDocument=trust)
        stacks.client("eks").create_cluster(
            name="test", roleArn=stacks.outputs["WorkerRoleArn"], resourcesVpcConfig={}
        )
        environment = variables(url, tmp_path, kubectl.parent)
        environment |= {"CLUSTER": "test", "KEDA_ROLE": "keda-operator"}
        done = run(commands(README.text), environment, tmp_path)
        attached = iam.list_attached_role_policies(RoleName="aup-worker-kubernetes")
        [policy] = attached["AttachedPolicies"]
        assert policy["PolicyArn"] == stacks.outputs["WorkerPolicyArn"]
        read = iam.get_role_policy(RoleName="keda-operator", PolicyName="aup-worker-queue")
        document = read["PolicyDocument"]
        [statement] = (json.loads(document) if isinstance(document, str) else document)["Statement"]
        assert statement["Resource"] == stacks.outputs["QueueArn"]
    assert "11 manifests, 0 problems" in done.stdout
    assert f"AUP_QUEUE: {stacks.outputs['QueueUrl']}" in done.stdout
    assert "exec deployment/aup-worker -- aup-worker doctor" in (tmp_path / "kubectl").read_text()


def test_documented_patch_gives_the_service_account_a_role(tmp_path: Path) -> None:
    shutil.copytree(INFRA / "kubernetes", tmp_path / "infra" / "kubernetes")
    shutil.copytree(INFRA / "monitoring", tmp_path / "infra" / "monitoring")
    [patch] = blocks(README.text, "yaml")
    overlay = tmp_path / "infra" / "kubernetes" / "example" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("patches:\n", f"patches:\n{patch}"))
    rendered = render(tools("kubernetes") / "bin" / "kubectl", overlay.parent)
    [account] = [each for each in yaml.safe_load_all(rendered) if each["kind"] == "ServiceAccount"]
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:")
