"""`status`: once, as lines, and as a live view on a terminal."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS, Environment, body, wait_until
from tests.process.terminal import Terminal, on_terminal

_ALTERNATE_SCREEN = "\x1b[?1049h"
_MAIN_SCREEN = "\x1b[?1049l"
_HIDDEN_CURSOR, _SHOWN_CURSOR = "\x1b[?25l", "\x1b[?25h"


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


def _watch(
    environment: Environment, *arguments: str, **changes: str
) -> AbstractContextManager[Terminal]:
    return on_terminal([COMMAND, "status", "--watch", *arguments], environment.variables | changes)


def test_status_reports_depths_reasons_and_the_rates_of_each_worker(
    deployment: Environment,
) -> None:
    port = _free_port()
    settings = {"AUP_HEALTH_PORT": port}
    deployment.send(*(body(each) for each in range(4)), "{", "{", body(9, version="2077"))
    with deployment.service(**settings) as service:
        wait_until(lambda: deployment.visible("AUP_DEAD_LETTER_QUEUE") == 3, "three dead-lettered")
        done = deployment.run("status", "--json", "--worker", f"127.0.0.1:{port}",
                            "--worker", "127.0.0.1:1")  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        report = json.loads(done.stdout)
        assert report["dead_letters"]["reasons"] == {"malformed": 2, "unknown_policy": 1}
        assert report["dead_letters"]["oldest_age_seconds"] >= 0
        assert report["queue"]["visible"] == report["queue"]["in_flight"] == 0
        alive, absent = report["workers"]
        assert (alive["answers"], alive["ready"], alive["recorded_per_second"]) == (True, True, 0)
        assert (absent["answers"], absent["recorded_per_second"]) == (False, None)
        assert "Connection refused" in absent["problem"]
        assert deployment.visible("AUP_DEAD_LETTER_QUEUE") == 3, "all visible again"
        done = deployment.run("status", **settings)
        assert (done.returncode, done.stderr) == (0, "")
        for row in (
            r"queue +0 +0 +0 +- +0\.0",
            r"dead letters +3 +0 +0 +\d+ s +0\.0",
            rf"127.0.0.1:{port} +ready( +0\.0){{4}} +0",
            r"malformed +2 +█+",
        ):
            assert re.search(rf"^{row}$", done.stdout, re.MULTILINE), done.stdout
        assert service.end(signal.SIGTERM)[0] == 0


def test_age_comes_from_cloudwatch_and_is_unknown_without_it(
    environment: Environment,
) -> None:
    url = environment.variables["AWS_ENDPOINT_URL"]
    boto3.client("cloudwatch", endpoint_url=url, region_name="us-east-1").put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": environment.variables["AUP_QUEUE"]}],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=2),
                "Value": 4321,
            }
        ],
    )
    environment.send(body(1))
    done = environment.run("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    queue = json.loads(done.stdout)["queue"]
    assert (queue["oldest_age_seconds"], queue["oldest_age_unknown"]) == (4321, "")
    done = environment.run("status", "--json", AWS_ENDPOINT_URL_CLOUDWATCH="http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    queue = json.loads(done.stdout)["queue"]
    assert (queue["visible"], queue["oldest_age_seconds"]) == (1, None)
    assert queue["oldest_age_unknown"].startswith("GetMetricData: Could not connect")


@pytest.mark.parametrize("arguments", [("--worker", "x"), ("--interval", "0"), ("--watch", "x")])
def test_invalid_option_of_status_is_a_usage_error(
    environment: Environment, arguments: tuple[str, ...]
) -> None:
    done = environment.run("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_watch_without_a_terminal_writes_lines_until_a_signal_or_a_closed_pipe(
    environment: Environment,
) -> None:
    environment.send("{", to="AUP_DEAD_LETTER_QUEUE")
    command = [COMMAND, "status", "--watch", "--interval", "0.5"]
    with subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--json"], env=environment.variables,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert first["queue"]["net_per_second"] is None
        environment.send(body(1), body(2))
        reports = (json.loads(text) for text in process.stdout)
        grown = next(each for each in reports if each["queue"]["visible"] == 2)
        assert grown["queue"]["net_per_second"] > 0
        seen = next(each for each in reports if each["dead_letters"]["reasons"])
        assert seen["dead_letters"]["reasons"] == {"malformed": 1}
        process.send_signal(signal.SIGTERM)
        assert (process.wait(DEADLINE_SECONDS), process.stderr.read()) == (0, b"")
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=environment.variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        text = process.stdout.readline().decode()
        assert re.match(r"\S+; queue 2 visible; 0 in flight; 0 delayed; oldest ", text), text
        process.stdout.close()
        assert (process.wait(DEADLINE_SECONDS), process.stderr.read()) == (141, b"")


def test_live_view_follows_changes_fits_any_size_and_restores_the_terminal(
    deployment: Environment,
) -> None:
    deployment.send("{", to="AUP_DEAD_LETTER_QUEUE")
    with _watch(deployment, "--interval", "0.5") as terminal:
        terminal.wait_for(r"queue +0 +0 +0")
        assert _ALTERNATE_SCREEN in terminal.shown
        terminal.wait_for("malformed +1 +█")
        deployment.send(*(body(each) for each in range(8)))
        terminal.wait_for(r"queue +8 +0 +0 +unknown +\+")
        terminal.wait_for("queue +▁+█")
        for columns in (60, 200):
            terminal.read()
            terminal.shown = ""
            terminal.resize(columns, 30)
            terminal.wait_for("dead letters by reason")
            assert max(map(len, terminal.text.splitlines())) == columns
        terminal.press("x\x1a")  # a key without a function, and Ctrl-Z
        terminal.press("q")
        assert terminal.end() == 0
        assert _SHOWN_CURSOR in terminal.shown[terminal.shown.rindex(_MAIN_SCREEN) - 20 :]
        assert terminal.restored
        assert "Traceback" not in terminal.shown
    assert deployment.visible("AUP_DEAD_LETTER_QUEUE") == 1


def test_live_view_exits_with_0_on_ctrl_c_and_with_1_without_a_queue(
    environment: Environment,
) -> None:
    with _watch(environment, "--no-reasons") as terminal:
        terminal.wait_for("queue +0")
        terminal.press("\x03")
        assert terminal.end() == 0
        assert terminal.restored
    with _watch(environment, AUP_QUEUE="nowhere") as terminal:
        assert terminal.end() == 1
        assert terminal.restored
        assert "queue 'nowhere' does not exist" in terminal.shown
