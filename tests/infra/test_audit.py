"""infra/audit.yaml: events of the tables, and backups beyond point-in-time recovery."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.infra.stacks import Stacks, resources, statements, template
from tests.servers.launch import ministack

TABLES: Final = [
    {"Fn::ImportValue": {"Fn::Sub": f"${{DataStack}}-{name}TableArn"}}
    for name in ("Users", "Policies")
]


def _only(kind: str) -> dict[str, Any]:
    [properties] = resources("audit", kind).values()
    return properties


def test_trail_logs_reads_and_writes_of_the_two_tables_and_nothing_else() -> None:
    trail = _only("AWS::CloudTrail::Trail")
    assert trail["IsLogging"]
    assert trail["EnableLogFileValidation"]
    [selector] = trail["AdvancedEventSelectors"]
    assert selector["FieldSelectors"] == [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::DynamoDB::Table"]},
        {"Field": "resources.ARN", "Equals": TABLES},
    ]


def test_bucket_accepts_this_trail_only_and_is_private() -> None:
    policy = _only("AWS::S3::BucketPolicy")["PolicyDocument"]
    trail = _only("AWS::CloudTrail::Trail")
    name = {"Fn::Sub": "arn:${AWS::Partition}:cloudtrail:${AWS::Region}:${AWS::AccountId}:trail/"
            "${AWS::StackName}"}  # fmt: skip
    assert trail["TrailName"] == {"Ref": "AWS::StackName"}
    allowed = [each for each in statements(policy) if each["Effect"] == "Allow"]
    assert [each["Action"] for each in allowed] == ["s3:GetBucketAcl", "s3:PutObject"]
    for each in allowed:
        assert each["Principal"] == {"Service": "cloudtrail.amazonaws.com"}
        assert each["Condition"]["StringEquals"]["aws:SourceArn"] == name
    [denied] = [each for each in statements(policy) if each["Effect"] == "Deny"]
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    bucket = _only("AWS::S3::Bucket")
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert template("audit")["Resources"]["Trail"]["DependsOn"] == "TrailBucketPolicy"


def test_evidence_is_retained_when_the_stack_is_deleted() -> None:
    found = template("audit")["Resources"]
    for name in ("TrailBucket", "TrailBucketPolicy", "BackupVault"):
        assert found[name]["DeletionPolicy"] == "RetainExceptOnCreate", name
        assert found[name]["UpdateReplacePolicy"] == "Retain", name


def test_lock_is_a_choice_and_lasts_as_long_as_a_backup() -> None:
    parameters = template("audit")["Parameters"]
    assert parameters["VaultLock"]["Default"] == "none"
    condition, locked, unlocked = _only("AWS::Backup::BackupVault")["LockConfiguration"]["Fn::If"]
    assert (condition, unlocked) == ("IsLocked", {"Ref": "AWS::NoValue"})
    assert locked["MinRetentionDays"] == {"Ref": "RetentionDays"}
    # Compliance: the lock can be removed for these days only; AWS accepts 3 or more.
    assert locked["ChangeableForDays"] == {"Fn::If": ["IsCompliance", 7, {"Ref": "AWS::NoValue"}]}
    assert parameters["RetentionDays"]["MinValue"] > 35


@pytest.mark.servers
def test_both_tables_are_backed_up_daily() -> None:
    with ministack() as url:
        stacks = Stacks(url)
        stacks.deploy("data")
        stacks.deploy("audit", without=("Trail", "BackupSelection"), RetentionDays="400")
        backup = stacks.client("backup")
        [plan] = backup.list_backup_plans()["BackupPlansList"]
        found = backup.get_backup_plan(BackupPlanId=plan["BackupPlanId"])["BackupPlan"]
        [rule] = found["Rules"]
        assert rule["TargetBackupVaultName"] == stacks.outputs["BackupVaultName"]
        assert rule["Lifecycle"]["DeleteAfterDays"] in {400, "400"}
        assert not rule.get("CopyActions")
    selection = _only("AWS::Backup::BackupSelection")["BackupSelection"]
    assert selection["Resources"] == TABLES
    assert selection["IamRoleArn"] == {"Fn::GetAtt": "BackupRole.Arn"}
