"""Tests of `python -m tests.bench --endpoint-url`, the comparison on a given server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.environment import DEADLINE_SECONDS, Environment
from tests.process.gate import Gate

SMALL = ("--messages", "100", "--rounds", "1")


def run(
    environment: Environment, *arguments: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    variables = environment.variables | changes
    url = variables["AWS_ENDPOINT_URL"]
    if "--endpoint-url" not in arguments:
        arguments = ("--endpoint-url", url, *arguments)
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.bench", *arguments],
        env=variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def temporary_resources(environment: Environment) -> tuple[list[str], list[str]]:
    queues = environment.sqs.list_queues(QueueNamePrefix="aup-bench-").get("QueueUrls", [])
    tables = [table.name for table in environment.dynamodb.tables.all()]
    return queues, [name for name in tables if name.startswith("aup-bench-")]


def test_comparison_uses_temporary_queues_and_tables(
    environment: Environment,
) -> None:
    done = run(
        environment, *SMALL, "--ways", "BCD", "--json",
        AUP_POLL_CONCURRENCY="1", AUP_WRITE_CONCURRENCY="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    variants = json.loads(done.stdout)["ways"]
    assert list(variants) == ["B", "C", "D"]
    assert variants["B"]["messages"] == 40
    # B opens a pool in every call; moto closes each connection after its response.
    for variant in ("B", "C"):
        assert variants[variant]["calls_per_message"]["median"] == pytest.approx(2.1)
        assert variants[variant]["calls_by_operation"] == {
            "DeleteMessage": 1.0,
            "PutItem": 1.0,
            "ReceiveMessage": pytest.approx(0.1),
        }
    worker = variants["D"]
    assert worker["calls_by_operation"]["PutItem"] == pytest.approx(1.0, abs=0.3)
    assert worker["connections"]["median"] > 10
    assert worker["tls_handshakes"]["median"] == 0
    for figure in ("cpu_us_per_message", "messages_per_second", "rss_mb", "start_seconds"):
        assert 0 < worker[figure]["least"] <= worker[figure]["median"] <= worker[figure]["most"]
    assert worker["p50_ms"]["median"] <= worker["p99_ms"]["median"]
    assert temporary_resources(environment) == ([], [])
    assert environment.recorded() == {}, "the configured queues and tables were not used"


def test_two_processes_share_the_work_and_the_table_shows_it(
    environment: Environment,
) -> None:
    done = run(
        environment, "--messages", "200", "--rounds", "1", "--ways", "e", AUP_WRITE_CONCURRENCY="1"
    )
    assert done.returncode == 0, done.stderr
    head, line = done.stdout.splitlines()
    assert head.split()[:3] == ["variant", "CPU", "µs/message"]
    assert line.startswith("E  the worker in two processes ")


def test_failed_run_exits_with_one_line_and_removes_its_resources(
    environment: Environment,
) -> None:
    # The policy and the probe at startup are written, but no acceptance is.
    with Gate(environment.variables["AWS_ENDPOINT_URL"], "PutItem", 2).open() as gate:
        done = run(
            environment, *SMALL, "--ways", "D", AWS_ENDPOINT_URL=gate.url, AUP_HOLD_SECONDS="1",
            AUP_MAX_ATTEMPTS="1", AUP_CALL_TIMEOUT_SECONDS="1",
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("bench: D: ended with 1: ")
    assert len(done.stderr.splitlines()) == 1
    assert temporary_resources(environment) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--ways", "DX"), "--ways DX: expected letters of ABCDE"),
        (("--ways", ","), "--ways ,: expected letters of ABCDE"),
        (
            ("--endpoint-url", "http://192.0.2.1", "--messages", "1000"),
            ("SQS and DynamoDB are remote: 9,420 messages will be billed. Pass --yes to continue."),
        ),
    ],
)
def test_invalid_use_exits_with_one_line(
    environment: Environment, arguments: tuple[str, ...], text: str
) -> None:
    done = run(environment, *arguments)
    assert (done.returncode, done.stderr) == (2, f"bench: {text}\n")
