"""Permissions of the policies in the templates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.infra.stacks import NAMES, listed, resources, statements, template

OPERATIONS = (Path(__file__).parents[2] / "infra" / "operations.md").read_text()
# Actions that change or delete something, or allow others to.
CHANGES = re.compile(
    r"Update|Delete|Put|Purge|Set|Create|Tag|Add|Remove|Restore|Batch|Execute|Start"
)
QUEUE, DEAD = "${DataStack}-QueueArn", "${DataStack}-DeadLetterQueueArn"
USERS, POLICIES = "${DataStack}-UsersTableArn", "${DataStack}-PoliciesTableArn"
# Actions for which AWS supports no resource.
EVERYWHERE = {"ecr:GetAuthorizationToken"}


def granted(policy: str) -> dict[str, set[str]]:
    """Return the actions that a policy allows, by the export that names the resource."""
    found: dict[str, set[str]] = {}
    for statement in statements(resources("roles", "AWS::IAM::ManagedPolicy")[policy]):
        assert statement["Effect"] == "Allow"
        resource = statement["Resource"]
        name = str(resource.get("Fn::ImportValue", resource).get("Fn::Sub"))
        found.setdefault(name, set()).update(listed(statement["Action"]))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_policy_allows_actions_on_all_resources(name: str) -> None:
    # In the policy of a key, the resource * is that key.
    policies = {**template(name)["Resources"], "Key": None}
    for statement in statements(policies):
        resource = listed(statement.get("Resource", []))
        if "*" in resource:
            assert set(listed(statement["Action"])) <= EVERYWHERE
        assert "NotAction" not in statement
        assert "NotResource" not in statement


def test_no_role_allows_actions_by_wildcard() -> None:
    for statement in statements(template("roles")["Resources"]):
        assert not [action for action in listed(statement["Action"]) if "*" in action]


def test_worker_has_only_the_documented_permissions() -> None:
    assert granted("WorkerPolicy") == {
        QUEUE: {
            "sqs:ReceiveMessage",
            "sqs:DeleteMessage",
            "sqs:ChangeMessageVisibility",
            "sqs:GetQueueAttributes",
        },
        DEAD: {"sqs:SendMessage", "sqs:GetQueueAttributes"},
        USERS: {"dynamodb:PartiQLInsert", "dynamodb:GetItem"},
        POLICIES: {"dynamodb:GetItem"},
    }
    paragraph = OPERATIONS[OPERATIONS.index("**Permissions.**") :].split("Nothing that updates")[0]
    for actions in granted("WorkerPolicy").values():
        assert not [action for action in actions if f"`{action}`" not in paragraph]


def test_worker_cannot_update_or_delete_records() -> None:
    for resource, actions in granted("WorkerPolicy").items():
        if resource in {USERS, POLICIES}:
            assert not [action for action in actions if CHANGES.search(action)]


def test_worker_can_protect_only_tasks_of_its_cluster() -> None:
    [(resource, actions)] = granted("ProtectionPolicy").items()
    assert resource.endswith(":task/${ClusterName}/*")
    assert actions == {"ecs:UpdateTaskProtection", "ecs:GetTaskProtection"}
    policies = {
        role: properties["ManagedPolicyArns"]
        for role, properties in resources("roles", "AWS::IAM::Role").items()
    }
    assert [role for role, arns in policies.items() if {"Ref": "ProtectionPolicy"} in arns] == [
        "WorkerRole"
    ]


def test_only_the_eraser_can_change_records_and_only_erasable_attributes() -> None:
    changing: dict[str, list[Any]] = {}
    for policy, properties in resources("roles", "AWS::IAM::ManagedPolicy").items():
        for statement in statements(properties):
            on_users = USERS in str(statement["Resource"])
            if on_users and CHANGES.search(" ".join(listed(statement["Action"]))):
                changing.setdefault(policy, []).append(statement)
    assert list(changing) == ["EraserPolicy"]
    [statement] = changing["EraserPolicy"]
    assert statement["Action"] == ["dynamodb:PartiQLUpdate"]
    named = _nameable(statement)
    key = ["user_id", "policy_version"]
    values = ["ip", "user_agent", "session_id"]
    salts = [f"{each}_salt" for each in values]
    assert sorted(named) == sorted([*key, *values, *salts])


def _nameable(statement: dict[str, Any]) -> list[str]:
    """Return the attributes that an update may name; it must name some."""
    condition = statement["Condition"]
    # By itself, ForAllValues also matches a request that names no attribute.
    assert condition["Null"] == {"dynamodb:Attributes": "false"}
    named: list[str] = condition["ForAllValues:StringEquals"]["dynamodb:Attributes"]
    return named


def test_publisher_can_update_only_the_end_of_a_version() -> None:
    properties = resources("roles", "AWS::IAM::ManagedPolicy")["PublisherPolicy"]
    updates = [each for each in statements(properties) if "Condition" in each]
    assert [each["Action"] for each in updates] == [["dynamodb:PartiQLUpdate"]]
    assert _nameable(updates[0]) == ["policy_id", "version", "retired_at"]


def test_no_role_can_overwrite_items_or_create_them_by_an_update() -> None:
    replacing = {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLDelete"}
    for policy in resources("roles", "AWS::IAM::ManagedPolicy"):
        if policy not in {"ProtectionPolicy", "KeyPolicy"}:
            for actions in granted(policy).values():
                assert not {each.partition(":")[2] for each in actions} & replacing


def test_documented_permissions_of_each_role_match_the_template() -> None:
    rows = re.findall(r"^\| (\w+) \| `aup-worker .*\|$", OPERATIONS, re.MULTILINE)
    roles = {role.removesuffix("Role") for role in resources("roles", "AWS::IAM::Role")}
    assert {row.capitalize() for row in rows} == roles
    for role in roles:
        [row] = re.findall(rf"^\| {role.lower()} \|.*$", OPERATIONS, re.MULTILINE)
        documented = set(re.findall(r"`([A-Z]\w+)`", row))
        permitted = {
            action.partition(":")[2]
            for actions in granted(f"{role}Policy").values()
            for action in actions
        }
        assert documented == permitted


def test_each_role_has_only_its_own_policy() -> None:
    for role, properties in resources("roles", "AWS::IAM::Role").items():
        own = {"Ref": role.replace("Role", "Policy")}
        more = [{"Ref": "ProtectionPolicy"}] if role == "WorkerRole" else []
        assert properties["ManagedPolicyArns"] == [own, *more]
        assert "Policies" not in properties


def test_each_role_of_people_has_a_principal_of_its_own() -> None:
    own = {
        role: f"{role.removesuffix('Role')}Principal"
        for role in resources("roles", "AWS::IAM::Role")
        if role != "WorkerRole"
    }
    assert len(own) == 5
    for principal in own.values():
        assert template("roles")["Parameters"][principal]["Default"] == ""
    for role, principal in own.items():
        properties = resources("roles", "AWS::IAM::Role")[role]
        [statement] = properties["AssumeRolePolicyDocument"]["Statement"]
        condition, first, otherwise = statement["Principal"]["AWS"]["Fn::If"]
        assert (condition, first) == (f"Has{role.removesuffix('Role')}", {"Ref": principal})
        # The parameter of earlier releases, and without it IAM decides.
        account = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}
        assert otherwise == {"Fn::If": ["TrustsOne", {"Ref": "TrustedPrincipal"}, account]}


SENDERS = {
    "HasTopics": ("Service", "sns.amazonaws.com", "TopicArns"),
    "HasRules": ("Service", "events.amazonaws.com", "RuleArns"),
    "HasSenders": ("AWS", {"Ref": "SenderArns"}, None),
}


def test_only_named_senders_may_send_to_the_queue_and_only_send() -> None:
    policies = resources("data", "AWS::SQS::QueuePolicy")
    statements_of_queue = policies["QueuePolicy"]["PolicyDocument"]["Statement"][1:]
    found = {each["Fn::If"][0]: each["Fn::If"][1] for each in statements_of_queue}
    assert found.keys() == SENDERS.keys()
    for condition, (kind, principal, parameter) in SENDERS.items():
        statement = found[condition]
        assert statement["Principal"] == {kind: principal}
        assert set(listed(statement["Action"])) <= {"sqs:SendMessage", "sqs:GetQueueAttributes"}
        assert statement["Resource"] == {"Fn::GetAtt": "Queue.Arn"}
        if parameter:
            source = {"aws:SourceArn": {"Ref": parameter}}
            assert statement["Condition"] == {"ArnEquals": source}
    [only] = policies["DeadLetterQueuePolicy"]["PolicyDocument"]["Statement"]
    assert only["Effect"] == "Deny"


def test_key_serves_its_account_logs_and_named_senders_only() -> None:
    [key] = resources("key", "AWS::KMS::Key").values()
    assert key["EnableKeyRotation"] is True
    found = {each["Sid"]: each for each in statements(key["KeyPolicy"])}
    principals = {sid: each["Principal"] for sid, each in found.items()}
    assert principals == {
        "LetIAMDecide": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"}},
        "EncryptLogs": {"Service": {"Fn::Sub": "logs.${AWS::Region}.${AWS::URLSuffix}"}},
        "DeliverFromTopics": {"Service": "sns.amazonaws.com"},
        "DeliverFromRules": {"Service": "events.amazonaws.com"},
    }
    for sid in ("DeliverFromTopics", "DeliverFromRules"):
        assert set(found[sid]["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
    assert "kms:EncryptionContext:aws:logs:arn" in found["EncryptLogs"]["Condition"]["ArnEquals"]
    assert found["DeliverFromTopics"]["Condition"] == {
        "ArnEquals": {"aws:SourceArn": {"Ref": "TopicArns"}}
    }


def test_policy_of_the_key_is_an_output_for_other_roles() -> None:
    output = template("roles")["Outputs"]["KeyPolicyArn"]
    assert (output["Condition"], output["Value"]) == ("HasKey", {"Ref": "KeyPolicy"})
