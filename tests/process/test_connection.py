"""Connection options of the installed command: no variable of the environment is needed."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS, Environment, body, wait_until

_OPTIONS = {
    "AWS_REGION": "--region",
    "AWS_ENDPOINT_URL": "--endpoint-url",
    "AUP_QUEUE": "--queue",
    "AUP_DEAD_LETTER_QUEUE": "--dead-letter-queue",
}


@pytest.fixture
def options(environment: Environment) -> list[str]:
    """Move queues, region and endpoint of the environment into options."""
    stated = [(option, environment.variables.pop(name)) for name, option in _OPTIONS.items()]
    environment.variables["AWS_ENDPOINT_URL_SQS"] = "http://127.0.0.1:1"
    environment.variables["AUP_QUEUE"] = "wrong"
    return [word for pair in stated for word in pair]


def _queue(options: list[str]) -> str:
    return options[options.index("--queue") + 1]


def _depth(environment: Environment, name: str) -> int:
    url = environment.sqs.get_queue_url(QueueName=name)["QueueUrl"]
    attributes = environment.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


@pytest.mark.parametrize("before", [True, False])
def test_push_and_status_reach_the_queue_of_the_options(
    environment: Environment, options: list[str], *, before: bool
) -> None:
    def run(*verb: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        words = [*options, *verb] if before else [*verb, *options]
        return environment.run(*words, stdin=stdin)

    done = run("push", stdin=f"{body(1)}\n")
    assert done.returncode == 0, done.stderr
    assert _depth(environment, _queue(options)) == 1
    done = run("status", "--json", "--no-reasons")
    assert done.returncode == 0, done.stderr
    assert f"/{_queue(options)}" in done.stdout


def test_children_of_a_service_inherit_options_and_files(
    environment: Environment, options: list[str], tmp_path: Path
) -> None:
    kept = {"PATH": environment.variables["PATH"]}
    file = tmp_path / "service.env"
    lines = [f"{name}={value}\n" for name, value in environment.variables.items() if "_" in name]
    file.write_text("".join(each for each in lines if not each.startswith("AWS_ENDPOINT")))
    url = environment.sqs.get_queue_url(QueueName=_queue(options))["QueueUrl"]
    for number in range(20):
        environment.sqs.send_message(QueueUrl=url, MessageBody=body(number))
    command = [COMMAND, "--env-file", str(file), "run", "--processes", "2", *options]
    with subprocess.Popen(command, env=kept, stderr=subprocess.PIPE) as service:  # noqa: S603 - our own command
        try:
            wait_until(lambda: len(environment.recorded()) == 20, "all records")
            service.send_signal(signal.SIGTERM)
            _, log = service.communicate(timeout=DEADLINE_SECONDS)
        finally:
            service.kill()
    assert service.returncode == 0, log.decode()


def test_missing_region_and_queue_name_the_option_and_the_variable(
    environment: Environment, options: list[str]
) -> None:
    del environment.variables["AUP_QUEUE"]
    region = options.index("--region")
    done = environment.run("push", *options[:region], *options[region + 2 :], stdin=body(1))
    assert done.returncode == 2
    assert "pass --region, or set AWS_REGION" in done.stderr
    done = environment.run("push", *options, "--queue", "nowhere", stdin=body(1))
    assert done.returncode == 1
    assert "--queue (AUP_QUEUE)" in done.stderr
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del environment.variables[name]
    done = environment.run("push", *options, stdin=body(1), HOME="/nonexistent")
    assert done.returncode == 1
    assert "--profile, AWS_PROFILE" in done.stderr
    assert "AWS_ACCESS_KEY_ID" in done.stderr


def test_profile_takes_precedence_over_keys_of_the_environment(
    environment: Environment, options: list[str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile auditor]\naws_access_key_id = AKIDOFPROFILE\naws_secret_access_key = secret\n"
    )
    done = environment.run(
        "doctor", "--profile", "auditor", *options, "--json",
        AWS_CONFIG_FILE=str(tmp_path / "config"),
    )  # fmt: skip
    assert "access key id …FILE" in done.stdout
