"""The image, built and run read-only, without a shell and as an unprivileged user.

Podman or Docker runs it. `IMAGE_BUILD_OPTIONS` and `IMAGE_RUN_OPTIONS` are additional options of
the engine; tests/infra/image_host.py provides an engine on machines without one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.infra.host import wait_until
from tests.process.environment import Environment, body
from tests.servers import parts
from tests.servers.launch import dynamodb_local, ministack, moto
from tests.servers.ports import free_port

ROOT: Final = Path(__file__).parents[2]


OPTIONS: Final = [
    *shlex.split(os.environ.get("IMAGE_RUN_OPTIONS", "")),
    *("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges"),
    *(f"--volume=/dev/null:/usr/bin/{name}:ro" for name in ("dash", "bash")),
]


def _engine() -> str | None:
    for name in ("podman", "docker"):
        path = shutil.which(name)
        if path and not subprocess.run([path, "info"], capture_output=True, check=False).returncode:  # noqa: S603
            return path
    return None


ENGINE: Final = _engine()
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.timeout(900),
    pytest.mark.skipif(ENGINE is None, reason="neither podman nor docker works"),
]


def engine(*arguments: str) -> str:
    """Run the engine, and return its output."""
    assert ENGINE is not None
    done = subprocess.run(  # noqa: S603
        [ENGINE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def image() -> str:
    done = subprocess.run(
        ["make", "image", "IMAGE=aup-worker-tested"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return "aup-worker-tested"


@pytest.fixture
def environment() -> Iterator[Environment]:
    with moto() as url:
        environment = Environment(url)
        environment.set_up()
        yield environment


class Container:
    """A container that runs the service."""

    def __init__(self, name: str) -> None:
        self.name = name

    def log(self) -> list[dict[str, Any]]:
        assert ENGINE is not None
        read = subprocess.run(  # noqa: S603
            [ENGINE, "logs", self.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in read.stdout.splitlines()]

    def has_logged(self, event: str) -> bool:
        return any(line["event"] == event for line in self.log())

    def stop(self) -> tuple[int, float]:
        """Stop it, and return its exit code and the duration in seconds."""
        started_at = time.monotonic()
        engine("stop", "--time=40", self.name)
        seconds = time.monotonic() - started_at
        return int(engine("inspect", "--format={{.State.ExitCode}}", self.name)), seconds


@contextmanager
def running(image: str, settings: Mapping[str, str]) -> Iterator[Container]:
    name = f"aup-{uuid.uuid4().hex[:8]}"
    settings = {**settings, "AUP_HEALTH_PORT": str(free_port())}
    options = [f"--env={name}={text}" for name, text in settings.items() if name != "PATH"]
    engine("run", "--detach", f"--name={name}", "--network=host", *OPTIONS, *options, image)
    try:
        yield Container(name)
    finally:
        engine("rm", "--force", name)


def test_image_has_labels_and_an_unprivileged_user(image: str) -> None:
    (found,) = json.loads(engine("inspect", image))
    config = found["Config"]
    assert config["User"] == "65532:65532"
    assert config["StopSignal"] in {"SIGTERM", "15"}
    assert (config["Entrypoint"], config["Cmd"]) == (["aup-worker"], ["run"])
    check = config.get("Healthcheck") or found["Healthcheck"]
    assert check["Test"] == ["CMD", "aup-worker", "health", "--started"]
    labels = {name.rpartition(".")[2]: text for name, text in config["Labels"].items()}
    assert labels["title"] == "aup-worker"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"][0].isdecimal()
    assert len(labels["revision"]) == 40


def test_read_only_container_without_a_shell_works_is_healthy_and_drains(
    image: str, environment: Environment
) -> None:
    with running(image, environment.variables) as container:
        wait_until(lambda: container.has_logged("started"), "the service has started")
        environment.send(*(body(number) for number in range(40)))
        wait_until(lambda: environment.recorded().total() > 0, "the first messages are recorded")
        assert engine("exec", container.name, "aup-worker", "health").strip() == "live"
        # The process that receives SIGTERM is the worker, not a shell.
        read = "print(open('/proc/1/cmdline').read().split(chr(0))[1])"
        first = engine("exec", container.name, "python", "-c", read)
        assert first.strip().endswith("/aup-worker")
        code, seconds = container.stop()
        assert code == 0, container.log()
        assert seconds < 10
        figures = next(line for line in container.log() if line["event"] == "stopped")
        assert (figures["balanced"], figures["held"]) == (True, 0)
        recorded = environment.recorded()
        assert recorded.total() + environment.visible("AUP_QUEUE") == 40, "no message is in flight"
        assert recorded == Counter(f"e-{number}" for number in range(40)) & recorded


def test_stop_right_after_the_start_is_handled(image: str, environment: Environment) -> None:
    with running(image, environment.variables) as container:
        process = int(engine("inspect", "--format={{.State.Pid}}", container.name))
        maps = Path(f"/proc/{process}/maps")
        wait_until(lambda: "pydantic_core" in maps.read_text(), "loading has begun")
        code, seconds = container.stop()
        assert code in {0, 143}, "0 if it had already started"
        assert seconds < 10


def test_compose_file_works_as_documented(image: str) -> None:
    services = yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())["services"]
    if not all(part.is_complete for part in (parts.MINISTACK, parts.DYNAMODB_LOCAL)):
        pytest.skip("the servers are not downloaded: run `make servers`")
    with ministack() as queues, dynamodb_local() as tables:
        endpoints = {"AWS_ENDPOINT_URL_SQS": queues, "AWS_ENDPOINT_URL_DYNAMODB": tables}
        settings = services["worker"]["environment"] | endpoints
        with running(image, settings) as container:  # started before the queues exist
            for name in ("init", "policy"):
                once = services[name]
                volumes = [f"--volume={ROOT}/infra/{each}" for each in once.get("volumes", [])]
                options = [f"--env={key}={text}" for key, text in settings.items()]
                run = ["run", "--rm", "--network=host", *OPTIONS, *options, *volumes]
                engine(*run, image, *once["command"])
            engine("start", container.name)
            accepted = ["--user", "u-42", "--policy", "acceptable-use", "--version", "2026-01"]
            engine("exec", container.name, "aup-worker", "push", *accepted)

            def is_recorded() -> bool:
                options = engine("exec", container.name, "aup-worker", "accepted", "u-42", "--json")
                return bool(json.loads(options)["acceptances"])

            wait_until(is_recorded, "the acceptance is recorded")
            assert container.stop()[0] == 0
