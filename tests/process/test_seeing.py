"""Observability of the service: endpoints, `health`, systemd, ECS and CloudWatch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.process.credentials import AWSProxy
from tests.process.environment import COMMAND, Environment, Service, body, wait_until
from tests.process.forked import Fork
from tests.unit.observability.test_emf import check_specification


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


def _get(port: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def _samples(port: str) -> dict[tuple[str, str], float]:
    """Return the samples that Prometheus would scrape, by name and last label."""
    return {
        (sample.name, next(reversed(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(_get(port, "/metrics")[1])
        for sample in family.samples
    }


def test_endpoints_report_liveness_readiness_and_metrics(
    deployment: Environment,
) -> None:
    port = _free_port()
    settings = {"AUP_HEALTH_PORT": port}
    done = deployment.run("health", **settings)
    assert (done.returncode, done.stdout.startswith("not live: no response from")) == (1, True)
    deployment.send(*(body(each) for each in range(12)), "{")
    with deployment.service(**settings) as service:
        wait_until(lambda: _get(port, "/readyz")[0] == 200, "ready")
        wait_until(
            lambda: (
                _samples(port).get(("aup_messages_settled_total", "recorded")) == 12
                and _samples(port)["aup_dead_letters_total", "malformed"] == 1
            ),
            "all settled",
        )
        status, text = _get(port, "/livez")
        assert (status, json.loads(text)["live"]) == (200, True)
        samples = _samples(port)
        assert samples["aup_messages_received_total", ""] >= 13
        assert samples["aup_books_balanced", ""] == samples["aup_ready", ""] == 1
        assert samples["aup_aws_calls_total", "ReceiveMessage"] >= 2
        assert any(name == "messaging_process_duration_seconds_sum" for name, _ in samples)
        done = deployment.run("health", **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "live\n", "")
        done = deployment.run("health", "--ready", "--json", **settings)
        assert (done.returncode, json.loads(done.stdout)["ready"]) == (0, True)
        second = deployment.run("run", **settings)
        assert second.returncode == 2
        (line,) = second.stderr.splitlines()
        assert line.startswith(f"aup-worker: AUP_HEALTH_PORT={port}: cannot listen on")
        assert service.end(signal.SIGTERM)[0] == 0


def test_health_without_a_port_is_a_usage_error(environment: Environment) -> None:
    done = environment.run("health")
    assert done.returncode == 2
    assert done.stderr.startswith("aup-worker: AUP_HEALTH_PORT is not set")
    done = environment.run("health", AUP_HEALTH_PORT="eighty")
    assert (done.returncode, "expected a port" in done.stderr) == (2, True)


def test_started_and_ready_together_are_a_usage_error(environment: Environment) -> None:
    done = environment.run("health", "--started", "--ready", AUP_HEALTH_PORT="1")
    assert (done.returncode, "cannot be combined" in done.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections but never responds
        port = str(silent.getsockname()[1])
        started_at = time.monotonic()
        done = environment.run("health", "--timeout", "0.3", AUP_HEALTH_PORT=port)
        assert (done.returncode, "timed out" in done.stdout) == (1, True)
        assert time.monotonic() - started_at < 5


class _NotifySocket(threading.Thread):
    """The notification socket of systemd."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self.notifications: list[str] = []

    def run(self) -> None:
        while data := self._socket.recv(4096):
            self.notifications.append(data.decode())

    def wait_for(self, beginning: str) -> None:
        wait_until(
            lambda: any(each.startswith(beginning) for each in self.notifications), beginning
        )


def test_systemd_is_notified_of_readiness_progress_and_the_drain(
    environment: Environment, tmp_path: Path
) -> None:
    notify_socket = _NotifySocket(str(tmp_path / "notify"))
    notify_socket.start()
    settings = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    with environment.service(**settings) as service:
        notify_socket.wait_for("READY=1")
        assert notify_socket.notifications.index("READY=1") > 0
        assert notify_socket.notifications[0].startswith("EXTEND_TIMEOUT_USEC="), (
            "more time to start"
        )
        notify_socket.wait_for("STATUS=ready; ")
        pings = notify_socket.notifications.count("WATCHDOG=1")
        wait_until(
            lambda: notify_socket.notifications.count("WATCHDOG=1") >= pings + 3, "three pings"
        )
        service.process.send_signal(signal.SIGTERM)
        notify_socket.wait_for("STOPPING=1")
        notify_socket.wait_for("STATUS=not ready: draining")
        stopping = notify_socket.notifications.index("STOPPING=1")
        wait_until(
            lambda: any(
                each.startswith("EXTEND_") for each in notify_socket.notifications[stopping:]
            ),
            "more time to drain",
        )
        assert service.end()[0] == 0


@pytest.mark.parametrize("service_name", ["sqs", "dynamodb"])
def test_systemd_is_not_notified_of_readiness_without_permissions(
    environment: Environment, moto_url: str, tmp_path: Path, service_name: str
) -> None:
    notify_socket = _NotifySocket(str(tmp_path / "notify"))
    notify_socket.start()
    with AWSProxy(moto_url).open() as proxy:
        proxy.reject("AccessDeniedException", "no", service_name)
        environment.variables["AWS_ENDPOINT_URL"] = proxy.url
        with environment.service(NOTIFY_SOCKET=str(tmp_path / "notify")) as service:
            assert service.end()[0] == 1
    assert "READY=1" not in notify_socket.notifications


class _Agent(BaseHTTPRequestHandler):
    states: list[Any] = []  # noqa: RUF012 - only one test uses it

    def do_GET(self) -> None:
        assert self.path == "/v4/x/task"
        self._respond({"TaskARN": "arn:aws:ecs:r:1:task/c/t-42", "Family": "aup", "Revision": "7"})

    def do_PUT(self) -> None:
        assert self.path == "/api/task-protection/v1/state"
        self.states.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._respond({"protection": {"ProtectionEnabled": True}})

    def _respond(self, document: Any) -> None:
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def agent_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@contextmanager
def _service_with_stdout(environment: Environment, **changes: str) -> Iterator[Service]:
    variables = environment.variables | changes
    with Fork(["run"], variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield Service(process)
        finally:
            if process.poll() is None:
                process.kill()


def test_on_ecs_the_task_is_logged_and_protected_and_metrics_are_written(
    environment: Environment, agent_url: str
) -> None:
    settings = {
        "ECS_AGENT_URI": f"{agent_url}/api",
        "ECS_CONTAINER_METADATA_URI_V4": f"{agent_url}/v4/x",
        "AUP_ECS_PROTECTION": "true",
        "AUP_EMF": "1",
    }
    environment.send(*(body(each) for each in range(5)))
    with _service_with_stdout(environment, **settings) as service:
        wait_until(lambda: len(environment.recorded()) == 5, "all recorded")
        wait_until(lambda: bool(_Agent.states), "protection requested")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.stdout is not None
        written = [json.loads(line) for line in service.process.stdout]
        assert service.end()[0] == 0
    assert _Agent.states[0] == {"ProtectionEnabled": True, "ExpiresInMinutes": 10}
    assert len(_Agent.states) == 1, "not requested for each message"
    events = {line["event"] for line in service.log}
    assert {"started", "stopping", "drain started", "stopped"} <= events
    assert "summary" not in events, "summaries are on stdout"
    for line in service.log:
        assert (line["task_id"], line["task_family"], line["task_revision"]) == ("t-42", "aup", "7")
    for document in written:
        check_specification(document)
    assert written[-1]["event"] == "stopped"
    assert sum(document["Recorded"] for document in written) == 5
    assert written[-1]["task_id"] == "t-42"


def test_modules_of_unused_features_are_not_imported(environment: Environment) -> None:
    loaded = subprocess.run(  # noqa: S603 - our own interpreter
        [str(Path(COMMAND).with_name("python")), "-X", "importtime", "-c",
         "import worker.service, worker.cli.run"],
        env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True, timeout=60,
    ).stderr  # fmt: skip
    for name in ("aiohttp.web", "prometheus_client", "worker.observability.ecs",
                 "worker.observability.emf", "worker.observability.systemd"):  # fmt: skip
        assert f" {name}\n" not in loaded
    # A container health check runs `health` every few seconds.
    done = environment.run("health", AUP_HEALTH_PORT="1", PYTHONPROFILEIMPORTTIME="1")
    for name in ("aioboto3", "aiohttp", "structlog", "worker.settings"):
        assert f" {name}\n" not in done.stderr
