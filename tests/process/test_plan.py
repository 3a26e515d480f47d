"""`plan`, which needs neither a server nor credentials."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.process.environment import COMMAND, DEADLINE_SECONDS


def run(*arguments: str, columns: int | None = None) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
    if columns is not None:
        variables["COLUMNS"] = str(columns)
    return subprocess.run(  # noqa: S603 - our own command
        [COMMAND, "plan", *arguments],
        env=variables,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_plan_prints_what_a_rate_requires_and_how_it_is_calculated() -> None:
    done = run("--rate", "10000/min", columns=100)
    assert done.returncode == 0, done.stderr
    assert "1 of 0.25 vCPU and 512 MiB" in done.stdout
    assert "total                       572.06" in done.stdout
    assert "first limit: Fargate: On-Demand vCPU, default 6, reached at" in done.stdout
    assert done.stderr == "use --explain to show how each number is calculated\n"
    explained = run("--rate", "1000000/s", "--explain")
    assert explained.stderr == ""
    lines = explained.stdout.splitlines()
    assert any("INCREASE" in line and "per table" in line for line in lines)
    rows = [line for line in lines if line.startswith(("SQS requests", "Fargate", "tasks "))]
    assert all("µs" in line or " at " in line or " x " in line for line in rows)


def test_json_contains_the_same_plan(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('region = "eu-west-1"\ndynamodb_million_write_units = 1.25\n')
    done = run(
        "--rate", "10000/s", "--record-bytes", "1418", "--latency-ms", "10", "--spot",
        "--burst", "10", "--prices", str(prices), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["warm_write_units"] == 200_000
    assert plan["parameters"]["scaling.yaml"]["MaxTasks"] == plan["fleet"]["tasks_max"] == 20
    assert plan["prices"]["region"] == "eu-west-1"
    costs = {part["name"]: part["amount"] for part in plan["month"]["parts"]}
    assert costs["DynamoDB writes"] == 2 * 26_280 * 1.25
    assert plan["month"]["total"] == sum(costs.values())


def test_invalid_option_is_reported_in_one_line() -> None:
    for arguments, problem in (
        (("--rate", "10000"), "--rate 10000: expected a rate such as 10000/min"),
        (("--rate", "1/s", "--task-vcpu", "3"), "--task-vcpu 3: expected 0.25, 0.5, 1, 2, 4, 8 or"),
        (("--rate", "1/s", "--prices", "nowhere.toml"), "nowhere.toml: No such file"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"aup-worker: {problem}")
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
