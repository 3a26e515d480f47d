"""The service template with its options: evaluated for parameters, where no emulator shows them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.infra.stacks import INFRA, template, text
from tests.scaling.variants import RATES, case_for
from worker.aws.prices import shipped
from worker.planning.plan import make_plan, parameters

SERVICE: Final = template("service")
NO_VALUE: Final = {"Ref": "AWS::NoValue"}
REPOSITORY: Final = "arn:aws:ecr:us-east-1:123456789012:repository/aup-worker"
CREDENTIALS: Final = "arn:aws:secretsmanager:us-east-1:123456789012:secret:registry-AbCdEf"
# Amazon ECS developer guide, "Task size": MiB by CPU units.
TASK_SIZES: Final = {
    "256": ("512", "1024", "2048"),
    "512": ("1024", "2048", "4096"),
    "1024": ("2048", "4096", "8192"),
    "2048": ("4096", "8192", "16384"),
    "4096": ("8192", "16384"),
    "8192": ("16384", "32768"),
    "16384": ("32768",),
}


class Evaluated:
    """A template evaluated for parameters: conditions, `Fn::If` and references to parameters.

    Args:
        name: Template.
        chosen: Parameters that differ from their defaults.
    """

    def __init__(self, name: str, **chosen: str) -> None:
        self._template = template(name)
        unknown = chosen.keys() - self._template["Parameters"].keys()
        assert not unknown, unknown
        for parameter, value in chosen.items():
            allowed = self._template["Parameters"][parameter].get("AllowedPattern", ".*")
            assert re.fullmatch(allowed, value), parameter
        defaults = {
            parameter: str(each["Default"])
            for parameter, each in self._template["Parameters"].items()
            if "Default" in each
        }
        self._parameters = defaults | chosen

    def value(self, node: Any) -> Any:
        """Return a value with its functions evaluated; imports and attributes stay."""
        if isinstance(node, list):
            kept = [self.value(each) for each in node]
            return [each for each in kept if each != NO_VALUE]
        if not isinstance(node, dict):
            return node
        if set(node) == {"Ref"}:
            return self._parameters.get(node["Ref"], node)
        if set(node) == {"Fn::If"}:
            condition, then, otherwise = node["Fn::If"]
            return self.value(then if self.holds({"Condition": condition}) else otherwise)
        found = {key: self.value(each) for key, each in node.items()}
        return {key: each for key, each in found.items() if each != NO_VALUE}

    def holds(self, node: dict[str, Any]) -> bool:
        """Return whether a condition holds."""
        [(function, arguments)] = node.items()
        if function == "Condition":
            return self.holds(self._template["Conditions"][arguments])
        if function in {"Fn::Not", "Fn::Or"}:
            results = [self.holds(each) for each in arguments]
            return not results[0] if function == "Fn::Not" else any(results)
        first, second = (self.value(each) for each in arguments)
        if function == "Fn::Contains":
            return second in first
        assert function == "Fn::Equals"
        return str(first) == str(second)

    def resource(self, name: str) -> dict[str, Any] | None:
        """Return the properties of a resource, or None if its condition does not hold."""
        resource = self._template["Resources"][name]
        if "Condition" in resource and not self.holds({"Condition": resource["Condition"]}):
            return None
        found: dict[str, Any] = self.value(resource["Properties"])
        return found

    def refusals(self) -> list[str]:
        """Return what the rules of the template object to."""
        return [
            assertion["AssertDescription"]
            for rule in self._template.get("Rules", {}).values()
            if self.holds(rule["RuleCondition"])
            for assertion in rule["Assertions"]
            if not self.holds(assertion["Assert"])
        ]


def _container(**chosen: str) -> dict[str, Any]:
    task = Evaluated("service", **chosen).resource("TaskDefinition")
    assert task
    [container] = task["ContainerDefinitions"]
    return dict(container)


def _environment(**chosen: str) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in _container(**chosen)["Environment"]}


def _execution_statements(**chosen: str) -> dict[str, Any]:
    role = Evaluated("service", **chosen).resource("ExecutionRole")
    assert role
    [policy] = role["Policies"]
    return {each["Sid"]: each for each in policy["PolicyDocument"]["Statement"]}


@pytest.mark.parametrize("cpu", TASK_SIZES)
def test_rules_accept_only_the_task_sizes_of_fargate(cpu: str) -> None:
    for memory in SERVICE["Parameters"]["MemoryMiB"]["AllowedValues"]:
        refusals = Evaluated("service", CpuUnits=cpu, MemoryMiB=memory).refusals()
        assert bool(refusals) == (memory not in TASK_SIZES[cpu]), memory
    assert list(TASK_SIZES) == SERVICE["Parameters"]["CpuUnits"]["AllowedValues"]


def test_rules_accept_the_defaults_and_every_plan() -> None:
    assert not Evaluated("service").refusals()
    for rate in RATES:
        plan = make_plan(
            case_for(rate).demand, shipped(), architecture="arm64", network="nat", spot=False
        )
        sizes = {name: str(value) for name, value in parameters(plan)["service.yaml"].items()}
        assert not Evaluated("service", **sizes).refusals(), rate


def test_image_of_ecr_can_be_pulled_only_from_its_repository() -> None:
    assert set(_execution_statements()) == {"WriteLogs"}
    allowed = _execution_statements(ImageRepositoryArn=REPOSITORY)
    assert allowed["PullImage"]["Resource"] == REPOSITORY
    assert "ecr:BatchGetImage" in allowed["PullImage"]["Action"]
    assert allowed["SignIn"]["Action"] == "ecr:GetAuthorizationToken"


def test_image_of_another_private_registry_is_pulled_with_credentials() -> None:
    assert "RepositoryCredentials" not in _container()
    container = _container(RepositoryCredentialsArn=CREDENTIALS)
    assert container["RepositoryCredentials"] == {"CredentialsParameter": CREDENTIALS}
    allowed = _execution_statements(RepositoryCredentialsArn=CREDENTIALS)["ReadCredentials"]
    assert (allowed["Action"], allowed["Resource"]) == (
        "secretsmanager:GetSecretValue",
        CREDENTIALS,
    )


def test_tables_are_those_of_the_data_stack_or_named() -> None:
    usual = _environment()
    assert usual["AUP_TABLE_NAME"] == {
        "Fn::ImportValue": {"Fn::Sub": "${DataStack}-PoliciesTableName"}
    }
    restored = _environment(PoliciesTableName="old-policies", AcceptancesTableName="restored")
    assert restored["AUP_TABLE_NAME"] == "old-policies"
    assert restored["AUP_USER_TABLE_NAME"] == "restored"


def test_visibility_and_attempts_match_the_data_stack() -> None:
    environment = _environment()
    export = "${DataStack}-VisibilityTimeoutSeconds"
    visibility = environment["AUP_VISIBILITY_TIMEOUT_SECONDS"]
    assert visibility == {"Fn::ImportValue": {"Fn::Sub": export}}
    exported = [each["Export"]["Name"]["Fn::Sub"] for each in template("data")["Outputs"].values()
                if "Export" in each]  # fmt: skip
    assert export.replace("DataStack", "AWS::StackName") in exported
    receives = template("data")["Parameters"]["MaxReceiveCount"]["Default"]
    assert int(environment["AUP_MAX_ATTEMPTS"]) == receives - 2
    highest = template("data")["Parameters"]["MaxReceiveCount"]["MaxValue"]
    assert SERVICE["Parameters"]["MaxAttempts"]["MaxValue"] == highest - 2


def _egress(**chosen: str) -> list[tuple[str, int, str]]:
    service = Evaluated("service", **chosen)
    group = service.resource("SecurityGroup")
    assert group
    added = [service.resource(name) for name in ("OtlpEgress", "DnsEgress", "DnsTcpEgress")]
    rules = [*group["SecurityGroupEgress"], *filter(None, added)]
    assert all(rule["FromPort"] == rule["ToPort"] for rule in rules)
    return [(rule["IpProtocol"], int(rule["FromPort"]), rule["CidrIp"]) for rule in rules]


def test_egress_is_https_and_what_parameters_add() -> None:
    https = ("tcp", 443, "0.0.0.0/0")
    assert _egress() == [https]
    assert _egress(DnsCidr="10.0.0.2/32", OtlpCidr="10.1.0.0/16", OtlpPort="4317") == [
        https,
        ("tcp", 4317, "10.1.0.0/16"),
        ("udp", 53, "10.0.0.2/32"),
        ("tcp", 53, "10.0.0.2/32"),
    ]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in _environment()
    collector = "http://collector.internal:4318"
    assert _environment(OtlpEndpoint=collector)["OTEL_EXPORTER_OTLP_ENDPOINT"] == collector


def test_protection_is_off_and_its_expiry_is_bounded() -> None:
    environment = _environment()
    assert environment["AUP_ECS_PROTECTION"] == "false"
    assert environment["AUP_ECS_PROTECTION_MINUTES"] == "10"
    assert SERVICE["Parameters"]["ScaleInProtectionMinutes"]["MaxValue"] <= 60


EXPORT: Final = ("ExportLogGroup", "ExportRole", "ExportTask", "SchedulerRole", "DeadLetterExport")


def test_no_dead_letter_is_exported_by_default() -> None:
    for name in EXPORT:
        assert Evaluated("service").resource(name) is None, name


def test_scheduled_export_reads_dead_letters_and_deletes_none() -> None:
    service = Evaluated("service", ExportSchedule="rate(1 day)")
    found = {name: service.resource(name) or {} for name in EXPORT}
    assert found["DeadLetterExport"]["ScheduleExpression"] == "rate(1 day)"
    target = found["DeadLetterExport"]["Target"]["EcsParameters"]
    assert target["TaskDefinitionArn"] == {"Ref": "ExportTask"}
    [container] = found["ExportTask"]["ContainerDefinitions"]
    assert container["Command"] == ["dead-letters", "export", "-"]
    options = container["LogConfiguration"]["Options"]
    assert options["awslogs-group"] == {"Ref": "ExportLogGroup"}
    assert options["mode"] == "blocking"
    [statement] = found["ExportRole"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert statement["Action"] == [
        "sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes",
    ]  # fmt: skip


def test_log_groups_of_a_failed_creation_are_removed() -> None:
    groups = [
        each for each in SERVICE["Resources"].values() if each["Type"] == "AWS::Logs::LogGroup"
    ]
    assert len(groups) == 3
    for group in groups:
        assert group["DeletionPolicy"] == "RetainExceptOnCreate"
        assert group["UpdateReplacePolicy"] == "Retain"


def test_alarms_on_metrics_of_workers_are_off_where_no_metrics_arrive() -> None:
    names = ("NoReadyWorker", "WorkerNotReady")
    hosts, agents = Evaluated("alarms"), Evaluated("alarms", HostMetrics="true")
    tasks = Evaluated("alarms", ClusterName="aup-worker", ServiceName="aup-service")
    for name in names:
        assert hosts.resource(name) is None
        assert agents.resource(name)
        assert tasks.resource(name)
    for name in ("CrashLoop", "FailedDeployment", "NoTasks"):
        assert agents.resource(name) is None
        assert tasks.resource(name)


def test_alarms_on_events_count_the_rules_of_the_service() -> None:
    rules = {
        each["Properties"]["Name"]["Fn::Sub"].replace("${AWS::StackName}", "${ServiceName}")
        for each in SERVICE["Resources"].values()
        if each["Type"] == "AWS::Events::Rule"
    }
    alarms = template("alarms")["Resources"]
    counted = {
        alarms[name]["Properties"]["Dimensions"][0]["Value"]["Fn::Sub"]
        for name in ("CrashLoop", "FailedDeployment")
    }
    assert counted == rules


def test_dead_letters_are_an_alarm_days_before_they_expire() -> None:
    alarm = Evaluated("alarms").resource("OldDeadLetters")
    assert alarm
    metrics = {each["Id"]: each for each in alarm["Metrics"]}
    assert metrics["dead"]["Expression"] == "visible + hidden"
    names = [metrics[each]["MetricStat"]["Metric"]["MetricName"] for each in ("visible", "hidden")]
    assert names == [
        "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible",
    ]  # fmt: skip
    period = metrics["visible"]["MetricStat"]["Period"]
    # CloudWatch evaluates seven days at most, for periods of an hour and more.
    highest = template("alarms")["Parameters"]["DeadLetterHours"]["MaxValue"]
    assert highest * period <= 7 * 86_400
    assert int(alarm["EvaluationPeriods"]) * period == 3 * 86_400


@pytest.mark.parametrize("name", ["alarms", "service"])
def test_each_alarm_links_to_its_section_of_the_runbook(name: str) -> None:
    sections = re.findall(r"^### (\w+)$", (INFRA / "runbook.md").read_text(), re.MULTILINE)
    for each, resource in template(name)["Resources"].items():
        if resource["Type"] == "AWS::CloudWatch::Alarm":
            # The alarms of deployments share a section.
            section = "FailedDeployment" if name == "service" else each
            assert section in sections
            description = resource["Properties"]["AlarmDescription"]
            assert description.endswith(f"Runbook: infra/runbook.md#{section.lower()}")
            assert len(description) <= 1024


def test_dashboards_of_all_regions_have_different_names() -> None:
    dashboard = template("alarms")["Resources"]["Dashboard"]["Properties"]
    assert dashboard["DashboardName"] == {"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}


def test_compose_never_pulls_the_image_that_it_builds() -> None:
    services = yaml.safe_load(text("compose"))["services"]
    for name in ("init", "policy", "worker"):
        assert services[name]["pull_policy"] == "never"


def _made(tmp_path: Path, name: str, *arguments: str) -> tuple[int, str]:
    """Run make with an engine that builds for x86-64, and return exit code and commands."""
    engine = tmp_path / name
    engine.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/log\ncase "$*" in *inspect*) echo linux/amd64;; esac\n'
    )
    engine.chmod(0o755)
    done = subprocess.run(  # noqa: S603 - a target of this project
        ["make", f"ENGINE={engine}", *arguments],  # noqa: S607
        cwd=INFRA.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (tmp_path / "log").read_text() + done.stderr


def test_image_for_another_platform_than_asked_for_is_refused(tmp_path: Path) -> None:
    code, output = _made(tmp_path, "docker", "image", "PLATFORM=linux/arm64")
    assert code != 0
    assert "is built for linux/amd64, expected linux/arm64" in output
    for platform in ("", "linux/amd64"):
        assert _made(tmp_path, "docker", "image", f"PLATFORM={platform}")[0] == 0


def test_podman_builds_both_platforms_with_a_health_check(tmp_path: Path) -> None:
    code, output = _made(tmp_path, "podman", "image-push", "IMAGE=registry.example/aup-worker:1")
    assert code == 0, output
    build, push = output.splitlines()[:2]
    assert build.startswith("build --platform linux/amd64,linux/arm64 --format docker ")
    assert "--manifest registry.example/aup-worker:1 " in build
    assert push == (
        "manifest push --all registry.example/aup-worker:1 docker://registry.example/aup-worker:1"
    )
