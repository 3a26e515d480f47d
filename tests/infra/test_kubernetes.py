"""The Kubernetes manifests: consistency with the settings, the service and the simulation."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.infra.stacks import INFRA, resources, template
from tests.process.environment import DEADLINE_SECONDS, Environment, wait_until
from tests.process.forked import Fork
from tests.scaling.horizontal import SYNC_SECONDS
from tests.scaling.kubernetes import chosen
from tests.scaling.variants import TEMPLATE_RATE, case_for
from tests.servers.launch import moto
from tests.servers.ports import free_port
from worker.settings import load

KUBERNETES: Final = INFRA / "kubernetes"
LABELS: Final = {"app.kubernetes.io/name": "aup-worker"}
IMAGE_USER: Final = 65532


def _manifest(path: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((KUBERNETES / path).read_text())
    return read


@pytest.fixture
def pod() -> dict[str, Any]:
    template: dict[str, Any] = _manifest("base/deployment.yaml")["spec"]["template"]
    return template


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    [container] = pod["spec"]["containers"]
    return dict(container)


def _environment(container: dict[str, Any]) -> dict[str, str]:
    lines = (KUBERNETES / "example" / "settings.env").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    own = {each["name"]: each.get("value", "10.0.0.1") for each in container["env"]}
    assert not settings.keys() & own.keys(), "a setting of the base overrides that of an overlay"
    return settings | own


def test_every_setting_is_known_and_consistent(
    container: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = _environment(container)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load()
    assert settings.queue == environment["AUP_QUEUE"]
    assert str(settings.health_port) == environment["AUP_HEALTH_PORT"]


def test_sigkill_comes_after_the_drain(pod: dict[str, Any], container: dict[str, Any]) -> None:
    environment = _environment(container)
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert str(grace) == environment["AUP_STOP_TIMEOUT_SECONDS"]
    assert grace > int(environment["AUP_DRAIN_TIMEOUT_SECONDS"])


def test_drain_and_give_up_are_those_of_the_service_on_ecs(container: dict[str, Any]) -> None:
    environment = _environment(container)
    [task] = resources("service", "AWS::ECS::TaskDefinition")["TaskDefinition"][
        "ContainerDefinitions"
    ]
    assert environment["AUP_STOP_TIMEOUT_SECONDS"] == str(task["StopTimeout"])
    for name, parameter in (
        ("AUP_DRAIN_TIMEOUT_SECONDS", "DrainTimeoutSeconds"),
        ("AUP_GIVE_UP_SECONDS", "GiveUpSeconds"),
    ):
        assert environment[name] == str(template("service")["Parameters"][parameter]["Default"])


def test_probes_use_their_endpoints_and_a_worker_gives_up_first(container: dict[str, Any]) -> None:
    paths = {
        "startupProbe": "/startupz", "livenessProbe": "/livez", "readinessProbe": "/readyz",
    }  # fmt: skip
    [port] = container["ports"]
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}
    environment = _environment(container)
    assert environment["AUP_HEALTH_PORT"] == str(port["containerPort"])
    startup = container["startupProbe"]
    allowed = startup["periodSeconds"] * startup["failureThreshold"]
    assert int(environment["AUP_GIVE_UP_SECONDS"]) < allowed
    assert allowed < _manifest("base/deployment.yaml")["spec"]["progressDeadlineSeconds"]


def test_container_is_confined(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    confined = pod["spec"]["securityContext"]
    assert confined["runAsNonRoot"]
    assert confined["runAsUser"] == IMAGE_USER
    assert f"USER {IMAGE_USER}:{IMAGE_USER}" in (INFRA / "Dockerfile").read_text()
    assert confined["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["spec"]["automountServiceAccountToken"]
    assert not {"volumeMounts", "command"} & container.keys()


def test_processes_follow_the_limit_of_the_cpu(container: dict[str, Any]) -> None:
    assert container["args"] == ["run", "--processes", "auto"]
    limits = container["resources"]["limits"]
    assert limits == container["resources"]["requests"]
    # The size that the number of waiting messages per pod is for.
    assert float(limits["cpu"]) == case_for(TEMPLATE_RATE).fleet.task_vcpu


def test_every_selector_selects_the_pods_and_nothing_else(pod: dict[str, Any]) -> None:
    assert pod["metadata"]["labels"] == LABELS
    selectors = [
        _manifest("base/deployment.yaml")["spec"]["selector"],
        _manifest("base/poddisruptionbudget.yaml")["spec"]["selector"],
        _manifest("base/networkpolicy.yaml")["spec"]["podSelector"],
        _manifest("monitoring/podmonitor.yaml")["spec"]["selector"],
        *(each["labelSelector"] for each in pod["spec"]["topologySpreadConstraints"]),
    ]
    assert selectors == [{"matchLabels": LABELS}] * len(selectors)
    for directory in ("base", "keda", "monitoring"):
        # Kustomize would add a label to the selector of DNS in the network policy as well.
        for each in _manifest(f"{directory}/kustomization.yaml")["labels"]:
            assert each == {"pairs": LABELS}


def test_release_replaces_a_pod_only_by_one_that_is_ready() -> None:
    deployment = _manifest("base/deployment.yaml")["spec"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "replicas" not in deployment, "an update would undo what scaling set"


def test_disruption_budget_lets_the_last_worker_and_failing_workers_move() -> None:
    budget = _manifest("base/poddisruptionbudget.yaml")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_network_policy_allows_metrics_dns_https_and_pod_identity_only() -> None:
    policy = _manifest("base/networkpolicy.yaml")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [ingress] = policy["ingress"]
    assert [each["port"] for each in ingress["ports"]] == ["health"]
    ports = [
        [(each["protocol"], each["port"]) for each in rule["ports"]] for rule in policy["egress"]
    ]
    assert ports == [[("UDP", 53), ("TCP", 53)], [("TCP", 443)], [("TCP", 80)]]
    assert policy["egress"][1]["to"][0]["ipBlock"]["except"] == ["169.254.169.254/32"]


def test_scaling_is_the_simulated_policy() -> None:
    policy = chosen(case_for(TEMPLATE_RATE))
    spec = _manifest("keda/scaledobject.yaml")["spec"]
    queue, cpu = spec["triggers"]
    assert queue["metadata"]["queueLength"] == str(policy.queue_length)
    assert queue["metadata"]["scaleOnInFlight"] == "false", "the model counts waiting messages"
    assert cpu["metadata"]["value"] == f"{policy.cpu_percent:g}"
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (policy.pods_min, policy.pods_max)
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"] == {"stabilizationWindowSeconds": policy.in_window_seconds}
    assert behavior["scaleUp"]["policies"] == [
        {"type": "Percent", "value": 100, "periodSeconds": SYNC_SECONDS},
        {"type": "Pods", "value": 4, "periodSeconds": SYNC_SECONDS},
    ]


def test_scaling_reads_the_queue_of_the_worker_with_the_authentication_that_is_created() -> None:
    spec = _manifest("keda/scaledobject.yaml")["spec"]
    queue = spec["triggers"][0]
    assert queue["metadata"]["queueURLFromEnv"] == "AUP_QUEUE"
    assert spec["scaleTargetRef"]["name"] == _manifest("base/deployment.yaml")["metadata"]["name"]
    authentication = _manifest("keda/triggerauthentication.yaml")
    assert queue["authenticationRef"]["name"] == authentication["metadata"]["name"]


def test_role_of_the_pods_trusts_the_service_account_of_the_example_only() -> None:
    [statement] = json.loads((KUBERNETES / "pod-identity.json").read_text())["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    account = _manifest("base/serviceaccount.yaml")["metadata"]["name"]
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/kubernetes-namespace": _manifest("example/kustomization.yaml")["namespace"],
        "aws:RequestTag/kubernetes-service-account": account,
    }


def test_example_patches_what_an_account_differs_in() -> None:
    text = (KUBERNETES / "example" / "kustomization.yaml").read_text()
    settings = (KUBERNETES / "example" / "settings.env").read_text()
    [region] = re.findall(r"^AWS_REGION=(.*)$", settings, re.MULTILINE)
    assert f"value: {region}\n" in text
    [image] = _manifest("example/kustomization.yaml")["images"]
    assert image["digest"].startswith("sha256:")
    assert image["name"] == "aup-worker"
    namespace = _manifest("example/namespace.yaml")["metadata"]
    assert namespace["labels"] == {"pod-security.kubernetes.io/enforce": "restricted"}


def test_container_runs_answers_its_probes_and_drains(
    container: dict[str, Any], tmp_path: Path
) -> None:
    port = free_port()
    with moto() as url:
        environment = Environment(url)
        environment.set_up()
        own = _environment(container) | environment.variables
        own |= {"AUP_HEALTH_HOST": "127.0.0.1", "AUP_HEALTH_PORT": str(port), "HOME": str(tmp_path)}
        with Fork(container["args"], own) as worker:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = container[probe]["httpGet"]["path"]
                wait_until(partial(_answers, port, path), path)
            assert _answers(port, "/metrics")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(DEADLINE_SECONDS) == 0
    assert not list(tmp_path.iterdir()), "the root of the container is read-only"


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
            return bool(response.status == HTTPStatus.OK)
    except OSError:  # not yet, or another status
        return False
