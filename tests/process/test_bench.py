"""The comparison of variants on a given server, as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.gate import Gate
from tests.process.workplace import DEADLINE_SECONDS, Workplace

SMALL = ("--messages", "100", "--rounds", "1")


def run(workplace: Workplace, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = workplace.environment | changes
    url = environment["AWS_ENDPOINT_URL"]
    if "--endpoint-url" not in arguments:
        arguments = ("--endpoint-url", url, *arguments)
    return subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "tests.bench", *arguments],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def names(workplace: Workplace) -> tuple[list[str], list[str]]:
    queues = workplace.sqs.list_queues(QueueNamePrefix="aup-bench-").get("QueueUrls", [])
    tables = [table.name for table in workplace.dynamodb.tables.all()]
    return queues, [name for name in tables if name.startswith("aup-bench-")]


def test_it_compares_the_ways_on_queues_of_its_own_and_removes_them(workplace: Workplace) -> None:
    done = run(
        workplace, *SMALL, "--ways", "BCD", "--json",
        AUP_POLL_CONCURRENCY="1", AUP_WRITE_CONCURRENCY="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ways = json.loads(done.stdout)["ways"]
    assert list(ways) == ["B", "C", "D"]
    assert ways["B"]["messages"] == 40
    # B opens a pool in every call; moto closes each connection after its answer.
    for way in ("B", "C"):
        assert ways[way]["calls_per_message"]["median"] == pytest.approx(2.1)
        assert ways[way]["calls_by_operation"] == {
            "DeleteMessage": 1.0,
            "PutItem": 1.0,
            "ReceiveMessage": pytest.approx(0.1),
        }
    worker = ways["D"]
    assert worker["calls_by_operation"]["PutItem"] == pytest.approx(1.0, abs=0.3)
    assert worker["connections"]["median"] > 10
    assert worker["tls_handshakes"]["median"] == 0
    for figure in ("cpu_us_per_message", "messages_per_second", "rss_mb", "start_seconds"):
        assert 0 < worker[figure]["least"] <= worker[figure]["median"] <= worker[figure]["most"]
    assert worker["p50_ms"]["median"] <= worker["p99_ms"]["median"]
    assert names(workplace) == ([], [])
    assert workplace.recorded() == {}, "nor touches what the settings name"


def test_two_processes_share_the_work_and_a_person_reads_what_it_took(
    workplace: Workplace,
) -> None:
    done = run(
        workplace, "--messages", "200", "--rounds", "1", "--ways", "e", AUP_WRITE_CONCURRENCY="1"
    )
    assert done.returncode == 0, done.stderr
    head, line = done.stdout.splitlines()
    assert head.split()[:3] == ["way", "CPU", "µs/message"]
    assert line.startswith("E  the worker in two processes ")


def test_a_trial_that_fails_ends_it_with_one_line_and_leaves_nothing(workplace: Workplace) -> None:
    # The policy and the probe at the start arrive, and no acceptance.
    with Gate(workplace.environment["AWS_ENDPOINT_URL"], "PutItem", 2).open() as gate:
        done = run(
            workplace, *SMALL, "--ways", "D", AWS_ENDPOINT_URL=gate.url, AUP_HOLD_SECONDS="1",
            AUP_MAX_ATTEMPTS="1", AUP_CALL_TIMEOUT_SECONDS="1",
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("bench: D: ended with 1: ")
    assert len(done.stderr.splitlines()) == 1
    assert names(workplace) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--ways", "DX"), "--ways DX: must be letters of ABCDE"),
        (("--ways", ","), "--ways ,: must be letters of ABCDE"),
        (
            ("--endpoint-url", "http://192.0.2.1", "--messages", "1000"),
            ("SQS and DynamoDB are remote: 9,420 messages will be billed. Pass --yes to continue."),
        ),
    ],
)
def test_what_it_does_not_do_is_said_in_one_line(
    workplace: Workplace, arguments: tuple[str, ...], text: str
) -> None:
    done = run(workplace, *arguments)
    assert (done.returncode, done.stderr) == (2, f"bench: {text}\n")
