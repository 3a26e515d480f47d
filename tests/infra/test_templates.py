"""The deployed templates: properties of resources, and consistency with the settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.golden.golden import EXPECTED
from tests.infra.stacks import INFRA, NAMES, Stacks, resources, template, text
from tests.servers.launch import moto
from worker.aws.prices import shipped
from worker.cli.app import VERBS
from worker.settings import AWSSettings, Settings, load, variable

# Not created by the CloudFormation of moto; other tests read the templates, and cfn-lint checks
# the properties of these types.
UNKNOWN_TO_MOTO: Final = {
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Backup::BackupPlan",
    "AWS::Backup::BackupSelection",
    "AWS::Backup::BackupVault",
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::Alarm",
    "AWS::S3::BucketPolicy",
    "AWS::SQS::QueuePolicy",
}
# Conditions that hold with the default parameters; None is no condition.
CONDITIONS_BY_DEFAULT: Final = {
    None, "CreatesQueues", "CreatesPoliciesTable", "CreatesUsersTable",
    "HasSqs", "HasDynamoDB", "HasLogs", "HasEcr", "HasS3",
}  # fmt: skip
KEY: Final = "arn:aws:kms:us-east-1:123456789012:key/2fbe1a5e-6f0f-4b9e-9d3c-0a1b2c3d4e5f"
IMAGE: Final = "registry.example/aup-worker@sha256:" + "ab" * 32


@pytest.fixture(scope="module")
def stacks() -> Iterator[Stacks]:
    with moto() as url:
        stacks = Stacks(url)
        ec2 = stacks.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        blocks = ("10.0.0.0/24", "10.0.1.0/24")
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"] for block in blocks
        ]
        routes = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        network = {"VpcId": vpc, "SubnetIds": ",".join(subnets)}
        stacks.deploy("data")
        stacks.deploy("roles")
        stacks.deploy("service", **network, Image=IMAGE)
        stacks.deploy("alarms", ClusterName="aup-worker", ServiceName="aup-service")
        stacks.deploy("key")
        private = {**network, "RouteTableIds": routes, "VpcCidr": "10.0.0.0/16"}
        stacks.deploy("endpoints", **private, SharedVpc="false")
        stacks.deploy("scaling")
        stacks.deploy("audit")
        stacks.deploy("data", "own-key", Name="own-key", KmsKeyArn=KEY, WarmWriteUnits="20000")
        stacks.deploy("roles", "own-roles", DataStack="own-key", KmsKeyArn=KEY)
        yield stacks


def _attributes(stacks: Stacks, name: str) -> dict[str, Any]:
    sqs = stacks.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    response = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    attributes: dict[str, Any] = response["Attributes"]
    return attributes


def _task(stacks: Stacks) -> dict[str, Any]:
    response = stacks.client("ecs").describe_task_definition(taskDefinition="aup-service")
    task: dict[str, Any] = response["taskDefinition"]
    return task


def _container(stacks: Stacks) -> dict[str, Any]:
    [container] = _task(stacks)["containerDefinitions"]
    return dict(container)


def test_every_resource_that_moto_supports_is_created(stacks: Stacks) -> None:
    cloudformation = stacks.client("cloudformation")
    missing = set()
    for name in NAMES:
        response = cloudformation.describe_stack_resources(StackName=f"aup-{name}")
        created = {each.get("LogicalResourceId") for each in response["StackResources"]}
        for each, resource in template(name)["Resources"].items():
            if each not in created and resource.get("Condition") in CONDITIONS_BY_DEFAULT:
                missing.add(resource["Type"])
    assert missing == UNKNOWN_TO_MOTO


def test_retention_is_four_days_for_the_queue_and_fourteen_for_dead_letters(
    stacks: Stacks,
) -> None:
    queue = _attributes(stacks, "aup-acceptances")
    dead = _attributes(stacks, "aup-acceptances-dead")
    assert (queue["MessageRetentionPeriod"], dead["MessageRetentionPeriod"]) == (
        "345600", "1209600",
    )  # fmt: skip
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == dead["QueueArn"]
    allowed = resources("data", "AWS::SQS::Queue")["DeadLetterQueue"]["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    assert [arn["Fn::Sub"].rpartition(":")[2] for arn in allowed["sourceQueueArns"]] == [
        "${Name}-acceptances"
    ]
    for attributes in (queue, dead):
        assert attributes["SqsManagedSseEnabled"] == "true"
        assert attributes["VisibilityTimeout"] == "120"


def test_customer_managed_key_encrypts_queues_and_tables(stacks: Stacks) -> None:
    for name in ("own-key-acceptances", "own-key-acceptances-dead"):
        attributes = _attributes(stacks, name)
        assert attributes["KmsMasterKeyId"] == KEY
    for table in resources("data", "AWS::DynamoDB::Table").values():
        encrypted = {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": {"Ref": "KmsKeyArn"}}
        without = {"Ref": "AWS::NoValue"}
        assert table["SSESpecification"] == {"Fn::If": ["HasKey", encrypted, without]}
    iam = stacks.client("iam")
    role = stacks.outputs["WorkerRoleArn"].rpartition("/")[2]
    policies = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    assert any("KeyPolicy" in policy["PolicyName"] for policy in policies)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        # A failed first creation must not keep what the next one creates under the same name.
        ("AWS::SQS::Queue", "RetainExceptOnCreate"),
        ("AWS::SQS::QueuePolicy", "RetainExceptOnCreate"),
        # Their deletion protection would make that rollback fail.
        ("AWS::DynamoDB::Table", "Retain"),
    ],
)
def test_queues_and_tables_are_retained_when_their_stack_is_deleted(kind: str, policy: str) -> None:
    kept = [each for each in template("data")["Resources"].values() if each["Type"] == kind]
    assert len(kept) == 2
    for resource in kept:
        assert resource["DeletionPolicy"] == policy
        assert resource["UpdateReplacePolicy"] == "Retain"


def test_queues_and_tables_deny_plain_http() -> None:
    queues = resources("data", "AWS::SQS::QueuePolicy").values()
    tables = resources("data", "AWS::DynamoDB::Table").values()
    documents = [each["PolicyDocument"] for each in queues]
    documents += [each["ResourcePolicy"]["PolicyDocument"] for each in tables]
    assert len(documents) == 4
    for document in documents:
        statement, *senders = document["Statement"]
        # Only parameters add statements.
        assert all(each["Fn::If"][2] == {"Ref": "AWS::NoValue"} for each in senders)
        assert statement["Effect"] == "Deny"
        assert statement["Principal"] == "*"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_tables_are_on_demand_recoverable_and_protected(stacks: Stacks) -> None:
    dynamodb = stacks.client("dynamodb")
    keys = {}
    for name in ("aup-policies", "aup-acceptances"):
        table = dynamodb.describe_table(TableName=name)["Table"]
        assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
        assert table["DeletionProtectionEnabled"] in {True, "true"}  # moto stores the text
        keys[name] = [each["AttributeName"] for each in table["KeySchema"]]
    assert keys == {
        "aup-policies": ["policy_id", "version"],
        "aup-acceptances": ["user_id", "policy_version"],
    }
    for properties in resources("data", "AWS::DynamoDB::Table").values():
        recovery = properties["PointInTimeRecoverySpecification"]
        assert recovery == {"PointInTimeRecoveryEnabled": True}


def test_container_is_read_only_unprivileged_and_has_an_init(stacks: Stacks) -> None:
    container = _container(stacks)
    assert container["readonlyRootFilesystem"] is True
    assert container["privileged"] is False
    assert 0 not in map(int, container["user"].split(":"))
    assert container["linuxParameters"] == {
        "initProcessEnabled": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_environment_of_the_container_is_valid(
    stacks: Stacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = _container(stacks)
    # moto keeps an AWS::NoValue in a list as null.
    for each in filter(None, container["environment"]):
        monkeypatch.setenv(each["name"], each["value"])
    settings = load()
    assert settings.queue == stacks.outputs["QueueUrl"].replace("own-key", "aup")
    assert settings.stop_timeout_seconds == container["stopTimeout"]
    assert settings.drain_timeout_seconds < container["stopTimeout"]
    assert not settings.ecs_protection
    assert settings.emf
    attributes = _attributes(stacks, "aup-acceptances")
    assert int(attributes["VisibilityTimeout"]) == settings.visibility_timeout_seconds
    redrive = json.loads(attributes["RedrivePolicy"])
    assert int(redrive["maxReceiveCount"]) >= settings.max_attempts + 2


def test_longest_drain_ends_before_ecs_sends_sigkill(stacks: Stacks) -> None:
    longest = template("service")["Parameters"]["DrainTimeoutSeconds"]["MaxValue"]
    assert longest < _container(stacks)["stopTimeout"] <= 120


def test_health_check_is_a_verb_of_the_command(stacks: Stacks) -> None:
    container = _container(stacks)
    check = ["CMD", "aup-worker", "health", "--started"]
    assert container["healthCheck"]["command"] == check
    assert f"CMD {json.dumps(check[1:])}" in (INFRA / "Dockerfile").read_text()
    assert {"health", "run"} <= set(VERBS)
    assert [*container["entryPoint"], *container["command"]] == ["aup-worker", "run"]


def test_logs_are_retained_for_a_month(stacks: Stacks) -> None:
    options = _container(stacks)["logConfiguration"]["options"]
    groups = stacks.client("logs").describe_log_groups()["logGroups"]
    kept = {group["logGroupName"]: group.get("retentionInDays") for group in groups}
    assert kept[options["awslogs-group"]] == 30


def _service(kind: str) -> dict[str, Any]:
    """Return properties that moto accepts but does not return."""
    return resources("service", f"AWS::ECS::{kind}")[kind]


def test_service_keeps_one_on_demand_task_and_rolls_back_failed_deployments() -> None:
    service = _service("Service")
    first, rest = service["CapacityProviderStrategy"]
    assert first == {"CapacityProvider": "FARGATE", "Base": 1, "Weight": 1}
    spot = {"CapacityProvider": "FARGATE_SPOT", "Weight": {"Ref": "SpotWeight"}}
    assert rest == {"Fn::If": ["OnSpot", spot, {"Ref": "AWS::NoValue"}]}
    assert _service("Cluster")["CapacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    deployment = service["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert deployment["MinimumHealthyPercent"] == 100
    assert "DesiredCount" not in service, "an update would reset the number of tasks"


def test_task_has_the_role_of_the_worker_on_both_architectures() -> None:
    task = _service("TaskDefinition")
    assert task["RequiresCompatibilities"] == ["FARGATE"]
    assert task["TaskRoleArn"] == {"Fn::ImportValue": {"Fn::Sub": "${RolesStack}-WorkerRoleArn"}}
    platform = task["RuntimePlatform"]
    assert platform["CpuArchitecture"] == {"Ref": "CpuArchitecture"}
    allowed = template("service")["Parameters"]["CpuArchitecture"]["AllowedValues"]
    assert allowed == ["ARM64", "X86_64"]


def test_scaling_and_alarms_need_no_container_insights() -> None:
    settings = _service("Cluster")["ClusterSettings"]
    assert settings == [{"Name": "containerInsights", "Value": {"Ref": "ContainerInsights"}}]
    for name in NAMES:
        assert "ECS/ContainerInsights" not in text(name), name


def test_endpoints_allow_only_these_queues_and_tables(stacks: Stacks) -> None:
    found = stacks.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    by_service = {each["ServiceName"].split("us-east-1.")[-1]: each for each in found}
    assert set(by_service) >= {"sqs", "dynamodb", "logs", "ecr.api", "ecr.dkr", "s3"}
    policies = {name: str(by_service[name]["PolicyDocument"]) for name in ("sqs", "dynamodb")}
    assert ":aup-acceptances-dead" in policies["sqs"]
    assert ":table/aup-policies" in policies["dynamodb"]


def test_each_endpoint_has_a_switch_and_the_network_has_no_default() -> None:
    content = template("endpoints")
    switches = {
        each: resource["Condition"]
        for each, resource in content["Resources"].items()
        if resource["Type"] == "AWS::EC2::VPCEndpoint"
    }
    assert switches == {
        "Sqs": "HasSqs", "DynamoDB": "HasDynamoDB", "Logs": "HasLogs", "EcrApi": "HasEcr",
        "EcrDkr": "HasEcr", "S3": "HasS3",
    }  # fmt: skip
    for condition in switches.values():
        switch = condition.replace("Has", "With", 1)
        assert f"'Ref': '{switch}'" in str(content["Conditions"][condition])
        assert content["Parameters"][switch]["Default"] == "true"
    for name in ("VpcCidr", "SubnetIds", "RouteTableIds", "SharedVpc"):
        assert "Default" not in content["Parameters"][name], name


def test_warm_throughput_is_of_writes_and_at_least_what_a_new_table_has() -> None:
    parameter = template("data")["Parameters"]["WarmWriteUnits"]
    pattern = re.compile(parameter["AllowedPattern"])
    accepted = [
        each for each in (0, 1, 3999, 4000, 9999, 10_000, 40_000) if pattern.fullmatch(str(each))
    ]
    assert accepted == [0, 4000, 9999, 10_000, 40_000]
    users = resources("data", "AWS::DynamoDB::Table")["UsersTable"]
    written = {"WriteUnitsPerSecond": {"Ref": "WarmWriteUnits"}}
    assert users["WarmThroughput"] == {"Fn::If": ["IsWarm", written, {"Ref": "AWS::NoValue"}]}


def test_queue_keeps_messages_as_long_as_the_parameter_says(stacks: Stacks) -> None:
    stacks.deploy("data", "long", Name="long", RetentionSeconds="1209600")
    assert _attributes(stacks, "long-acceptances")["MessageRetentionPeriod"] == "1209600"
    parameter = template("data")["Parameters"]["RetentionSeconds"]
    assert parameter["MaxValue"] == 14 * 86_400


def test_data_stack_exports_what_the_service_is_set_to(stacks: Stacks) -> None:
    outputs = stacks.deploy(
        "data", "slow", Name="slow", VisibilityTimeoutSeconds="300", MaxReceiveCount="20"
    )
    exports = stacks.client("cloudformation").list_exports()["Exports"]
    exported = {each["Name"]: each.get("Value") for each in exports}
    assert exported["slow-VisibilityTimeoutSeconds"] == "300"
    assert exported["slow-MaxReceiveCount"] == "20"
    assert outputs["QueueName"] == "slow-acceptances"


def test_existing_tables_and_queues_are_named_instead_of_created(stacks: Stacks) -> None:
    before = stacks.client("dynamodb").list_tables()["TableNames"]
    first = stacks.deploy("data", "first", Name="first")
    second = stacks.deploy(
        "data",
        "second",
        Name="unused",
        QueuesStack="first",
        ExistingPoliciesTable="first-policies",
        ExistingUsersTable="restored",
    )
    tables = stacks.client("dynamodb").list_tables()["TableNames"]
    assert set(tables) - set(before) == {"first-policies", "first-acceptances"}
    renamed = {
        "UsersTableName": "restored",
        "UsersTableArn": first["UsersTableArn"].replace("first-acceptances", "restored"),
        "Environment": first["Environment"].replace(
            "USER_TABLE_NAME=first-acceptances", "USER_TABLE_NAME=restored"
        ),
    }
    assert second == first | renamed


def test_every_setting_named_in_infra_exists() -> None:
    known = {
        variable(model, field) for model in (AWSSettings, Settings) for field in model.model_fields
    }
    named = {
        (path.name, name)
        for path in INFRA.rglob("*")
        if path.is_file()
        for name in re.findall(r"\bAUP_[A-Z_]*[A-Z]\b", path.read_text(errors="ignore"))
    }
    assert len(named) >= 10
    assert not {each for each in named if each[1] not in known}


def _metrics(value: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the metrics of alarms and scaling: namespace, name and dimensions."""
    if isinstance(value, dict):
        if "MetricName" in value:
            dimensions = {each["Name"]: each["Value"] for each in value["Dimensions"]}
            namespace = value["Namespace"]
            yield str(namespace), value["MetricName"], dimensions
        for each in value.values():
            yield from _metrics(each)
    elif isinstance(value, list):
        for each in value:
            yield from _metrics(each)


OWN_NAMESPACE: Final = str({"Ref": "EmfNamespace"})


def _written_metrics() -> set[str]:
    """Return the names of the metrics in the golden EMF document."""
    document = json.loads((EXPECTED / "emf" / "summary.json").read_text(encoding="utf-8"))
    return {each["Name"] for each in document["_aws"]["CloudWatchMetrics"][0]["Metrics"]}


def test_alarms_use_metrics_and_dimensions_that_the_worker_writes() -> None:
    own_metrics = [
        each for each in _metrics(template("alarms")["Resources"]) if each[0] == OWN_NAMESPACE
    ]
    assert {name for _, name, _ in own_metrics} == {"BooksBalanced", "Ready"}
    for _, name, dimensions in own_metrics:
        assert name in _written_metrics()
        assert list(dimensions) == ["queue"]
    default = template("alarms")["Parameters"]["EmfNamespace"]["Default"]
    assert default == Settings.model_fields["emf_namespace"].default


def test_dashboard_shows_existing_metrics(stacks: Stacks) -> None:
    cloudwatch = stacks.client("cloudwatch")
    body = json.loads(
        cloudwatch.get_dashboard(DashboardName="aup-alarms-us-east-1")["DashboardBody"]
    )
    shown = [row for widget in body["widgets"] for row in widget["properties"]["metrics"]]
    own_metrics = [row for row in shown if row[0] == "AUPWorker"]
    assert len(own_metrics) >= 8
    for _, name, dimension, queue, _ in own_metrics:
        assert name in _written_metrics()
        assert (dimension, queue) == ("queue", "aup-acceptances")
    assert "${" not in json.dumps(body)


def test_there_is_an_alarm_for_everything_that_needs_an_operator() -> None:
    alarms = resources("alarms", "AWS::CloudWatch::Alarm")
    assert set(alarms) == {
        "Backlog",
        "BooksOutOfBalance",
        "CrashLoop",
        "DeadLetters",
        "FailedDeployment",
        "NoReadyWorker",
        "NoTasks",
        "OldDeadLetters",
        "OldMessages",
        "PolicyReadThrottles",
        "ReadThrottles",
        "WorkerNotReady",
        "WriteThrottles",
    }
    for name, alarm in alarms.items():
        assert "AlarmActions" in alarm, name
        # Missing data is an alarm only for metrics that every worker writes.
        missing = "breaching" if name in {"NoTasks", "NoReadyWorker"} else "notBreaching"
        assert alarm["TreatMissingData"] == missing, name
    assert (alarms["DeadLetters"]["Threshold"], alarms["DeadLetters"]["EvaluationPeriods"]) == (
        0,
        1,
    )


def test_scaling_follows_the_backlog_per_running_task_and_keeps_one_task() -> None:
    policies = resources("scaling", "AWS::ApplicationAutoScaling::ScalingPolicy")
    tracking = policies["BacklogPolicy"]["TargetTrackingScalingPolicyConfiguration"]
    metrics = {each["Id"]: each for each in tracking["CustomizedMetricSpecification"]["Metrics"]}
    assert metrics["backlog"]["Expression"] == "waiting / IF(running < 1, 1, running)"
    assert [each for each, metric in metrics.items() if metric["ReturnData"]] == ["backlog"]
    assert [(namespace, name) for namespace, name, _ in _metrics(tracking)] == [
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/ECS", "CPUUtilization"),
    ]
    assert metrics["running"]["MetricStat"]["Stat"] == "SampleCount"
    parameters = template("scaling")["Parameters"]
    assert parameters["MinTasks"]["Default"] == parameters["MinTasks"]["MinValue"] == 1


def test_plan_counts_the_metrics_of_all_alarms() -> None:
    counts = [
        len(list(_metrics(alarm)))
        for name in ("alarms", "service")
        for alarm in resources(name, "AWS::CloudWatch::Alarm").values()
    ]
    # Target tracking creates an alarm to scale out and one to scale in.
    policies = resources("scaling", "AWS::ApplicationAutoScaling::ScalingPolicy")
    counts += [2 * max(1, len(list(_metrics(policy)))) for policy in policies.values()]
    assert shipped().deployment.alarm_metrics == sum(counts)


def test_outputs_are_documented_commands(stacks: Stacks) -> None:
    documents = "".join((INFRA / name).read_text() for name in ("README.md", "operations.md"))
    for name, verb in (("Push", "push"), ("Replay", "replay"), ("Publish", "policy publish")):
        assert f"aup-worker {verb} " in stacks.outputs[name]
        assert f"aup-worker {verb} " in documents


def test_templates_are_within_the_size_limit_of_cloudformation() -> None:
    # The limit for templates that `aws cloudformation deploy` sends without a bucket.
    for name in NAMES:
        assert len(text(name).encode()) <= 51_200


def test_every_exception_from_checkov_has_a_reason() -> None:
    reasons = [
        exception["comment"]
        for name in NAMES
        for resource in template(name)["Resources"].values()
        for exception in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    ]
    assert reasons
    assert all(reasons)


def test_task_runs_as_the_user_of_the_image() -> None:
    dockerfile = INFRA / "Dockerfile"
    if not dockerfile.exists():
        pytest.skip("infra/Dockerfile is missing")
    [container] = _service("TaskDefinition")["ContainerDefinitions"]
    assert f"USER {container['User']}" in dockerfile.read_text().splitlines()
