"""Status as its readers see it: once, as lines, and live on a terminal."""

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

from tests.process.terminal import Terminal, on_terminal
from tests.process.workplace import COMMAND, DEADLINE_SECONDS, Workplace, body, wait_until

_ALTERNATE_SCREEN = "\x1b[?1049h"
_FORMER_SCREEN = "\x1b[?1049l"
_HIDDEN_CURSOR, _SHOWN_CURSOR = "\x1b[?25l", "\x1b[?25h"


def _free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


def _watching(
    place: Workplace, *arguments: str, **changes: str
) -> AbstractContextManager[Terminal]:
    return on_terminal([COMMAND, "status", "--watch", *arguments], place.environment | changes)


def test_status_tells_depths_reasons_and_what_each_worker_does(operated: Workplace) -> None:
    port = _free_port()
    told = {"AUP_HEALTH_PORT": port}
    operated.send(*(body(each) for each in range(4)), "{", "{", body(9, version="2077"))
    with operated.service(**told) as service:
        wait_until(lambda: operated.visible("AUP_DEAD_LETTER_QUEUE") == 3, "three dead")
        done = operated.run("status", "--json", "--worker", f"127.0.0.1:{port}",
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
        assert operated.visible("AUP_DEAD_LETTER_QUEUE") == 3, "all visible again"
        done = operated.run("status", **told)
        assert (done.returncode, done.stderr) == (0, "")
        for row in (
            r"queue +0 +0 +0 +- +0\.0",
            r"dead letters +3 +0 +0 +\d+ s +0\.0",
            rf"127.0.0.1:{port} +ready( +0\.0){{4}} +0",
            r"malformed +2 +#+ *",
        ):
            assert re.search(rf"^{row}$", done.stdout, re.MULTILINE), done.stdout
        assert service.end(signal.SIGTERM)[0] == 0


def test_the_age_comes_from_cloudwatch_and_is_unknown_where_that_cannot_be_asked(
    workplace: Workplace,
) -> None:
    url = workplace.environment["AWS_ENDPOINT_URL"]
    boto3.client("cloudwatch", endpoint_url=url, region_name="us-east-1").put_metric_data(
        Namespace="AWS/SQS",
        MetricData=[
            {
                "MetricName": "ApproximateAgeOfOldestMessage",
                "Dimensions": [{"Name": "QueueName", "Value": workplace.environment["AUP_QUEUE"]}],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=2),
                "Value": 4321,
            }
        ],
    )
    workplace.send(body(1))
    done = workplace.run("status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    queue = json.loads(done.stdout)["queue"]
    assert (queue["oldest_age_seconds"], queue["oldest_age_unknown"]) == (4321, "")
    done = workplace.run("status", "--json", AWS_ENDPOINT_URL_CLOUDWATCH="http://127.0.0.1:1")
    assert (done.returncode, done.stderr) == (0, "")
    queue = json.loads(done.stdout)["queue"]
    assert (queue["visible"], queue["oldest_age_seconds"]) == (1, None)
    assert queue["oldest_age_unknown"].startswith("GetMetricData: Could not connect")


@pytest.mark.parametrize("arguments", [("--worker", "x"), ("--interval", "0"), ("--watch", "x")])
def test_what_status_cannot_do_is_a_wrong_usage(
    workplace: Workplace, arguments: tuple[str, ...]
) -> None:
    done = workplace.run("status", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_without_a_terminal_a_watch_writes_lines_until_a_signal_or_nobody_reads(
    workplace: Workplace,
) -> None:
    workplace.send("{", to="AUP_DEAD_LETTER_QUEUE")
    command = [COMMAND, "status", "--watch", "--interval", "0.5"]
    with subprocess.Popen(  # noqa: S603 - our own command
        [*command, "--json"], env=workplace.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        assert first["queue"]["net_per_second"] is None
        workplace.send(body(1), body(2))
        reports = (json.loads(text) for text in process.stdout)
        grown = next(each for each in reports if each["queue"]["visible"] == 2)
        assert grown["queue"]["net_per_second"] > 0
        seen = next(each for each in reports if each["dead_letters"]["reasons"])
        assert seen["dead_letters"]["reasons"] == {"malformed": 1}
        process.send_signal(signal.SIGTERM)
        assert (process.wait(DEADLINE_SECONDS), process.stderr.read()) == (0, b"")
    with subprocess.Popen(  # noqa: S603 - our own command
        command, env=workplace.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        text = process.stdout.readline().decode()
        assert re.match(r"\S+; queue 2 visible; 0 in flight; 0 delayed; oldest ", text), text
        process.stdout.close()
        assert (process.wait(DEADLINE_SECONDS), process.stderr.read()) == (141, b"")


def test_a_live_view_shows_what_changes_fits_any_size_and_leaves_the_terminal_as_it_was(
    operated: Workplace,
) -> None:
    operated.send("{", to="AUP_DEAD_LETTER_QUEUE")
    with _watching(operated, "--interval", "0.5") as terminal:
        terminal.wait_for(r"queue +0 +0 +0")
        assert _ALTERNATE_SCREEN in terminal.shown
        terminal.wait_for("malformed +1 +#")
        operated.send(*(body(each) for each in range(8)))
        terminal.wait_for(r"queue +8 +0 +0 +unknown +\+")
        terminal.wait_for("queue +▁+█")
        for columns in (60, 200):
            terminal.read()
            terminal.shown = ""
            terminal.resize(columns, 30)
            terminal.wait_for("dead letters by reason")
            assert max(map(len, terminal.text.splitlines())) == columns
        terminal.press("x\x1a")  # another key, and the one that would suspend it
        terminal.press("q")
        assert terminal.end() == 0
        assert _SHOWN_CURSOR in terminal.shown[terminal.shown.rindex(_FORMER_SCREEN) - 20 :]
        assert terminal.restored
        assert "Traceback" not in terminal.shown
    assert operated.visible("AUP_DEAD_LETTER_QUEUE") == 1


def test_ctrl_c_ends_a_live_view_with_0_and_an_absent_queue_with_1(workplace: Workplace) -> None:
    with _watching(workplace, "--no-reasons") as terminal:
        terminal.wait_for("queue +0")
        terminal.press("\x03")
        assert terminal.end() == 0
        assert terminal.restored
    with _watching(workplace, AUP_QUEUE="nowhere") as terminal:
        assert terminal.end() == 1
        assert terminal.restored
        assert "queue 'nowhere' does not exist" in terminal.shown
