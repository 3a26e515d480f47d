"""`plan`, which needs neither a server nor credentials."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

from tests.process import forked
from tests.process.environment import DEADLINE_SECONDS


def run(*arguments: str, columns: int | None = None) -> CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
    if columns is not None:
        variables["COLUMNS"] = str(columns)
    done = forked.run(
        ["plan", *arguments],
        environment=variables,
        stdin=b"",
        timeout_seconds=DEADLINE_SECONDS,
        constants={},
    )
    return CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_plan_prints_the_cost_first_and_details_on_request() -> None:
    done = run("--rate", "10000/min", columns=80)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == ("167 messages/s, USD: 744 in month 1, 2,563 in month 12, 6,532 in month 36")
    assert lines[1] == "us-east-1, 1 task of 0.25 vCPU and 512 MiB, at most 10"
    assert lines[4].split()[:5] == ["this", "plan", "744", "2,563", "6,532"]
    assert len(lines) < 35, "one screen"
    assert "* AWS does not confirm compute_savings_plan_fargate, " in done.stdout
    assert done.stderr == (
        "use --verbose for requirements, quotas and bills, --explain for calculations\n"
    )


def test_table_fits_a_terminal_of_80_columns() -> None:
    for rate in ("10000/min", "10000/s"):
        done = run("--rate", rate, "--spot", columns=80)
        table = done.stdout.split("\n\n")[1].splitlines()
        assert len(table) == 12, "a line for each variant"
        assert max(map(len, table)) <= 80


def test_verbose_adds_requirements_quotas_and_bills() -> None:
    done = run("--rate", "10000/min", "--verbose")
    assert done.stderr == ""
    found = {line.split("  ")[0]: line.split()[-3:] for line in done.stdout.splitlines()}
    assert found["Network: VPC endpoints"] == ["65.01", "65.01", "65.01"]
    assert [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("total ")] == [
        ["743.75", "2,563", "6,532"],
        ["959.15", "652.05", "636.14"],
    ]
    assert "infra/scaling.yaml" in found
    assert found["Lambda requests"] == ["84.83", "8.76", "0.88"]
    assert found["Lambda duration"] == ["19.79", "2.92", "1.31"]
    assert "explanation" not in done.stdout


def test_explain_shows_calculations_and_sources() -> None:
    explained = run("--rate", "1000000/s", "--explain")
    assert explained.stderr == ""
    lines = explained.stdout.splitlines()
    assert any("INCREASE" in line and "Quotas in Amazon DynamoDB" in line for line in lines)
    rows = [line for line in lines if line.startswith(("SQS requests", "Fargate ", "tasks "))]
    assert all("µs" in line or " at " in line or " x " in line for line in rows)
    sources = [line for line in lines if "not confirmed" in line]
    assert any("dynamodb_export_gb" in line and "2026-" in line for line in sources)


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
    assert plan["parameters"]["scaling.yaml"]["MaxTasks"] == plan["fleet"]["tasks_max"] == 30
    assert plan["prices"]["region"] == "eu-west-1"
    costs = {part["name"]: part["amount"] for part in plan["month"]["parts"]}
    assert costs["DynamoDB writes"] == 2 * 26_280 * 1.25
    assert plan["month"]["total"] == sum(costs.values())
    months = {each["name"]: each["months"] for each in plan["variants"]}
    assert [each["month"] for each in months["this plan"]] == [1, 12, 36]
    assert months["this plan"][0]["total"] == plan["month"]["total"]
    assert {"fargate_spot_share", "dynamodb_warm_write_unit"} <= set(plan["unconfirmed"])
    sources = {name: each for each in plan["sources"] for name in each["figures"]}
    assert sources["dynamodb_million_write_units"]["title"] == str(prices)
    assert not sources["fargate_spot_share"]["confirmed"]


def test_chart_is_written_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    for name, start in (("plan.png", b"\x89PNG"), ("plan.svg", b"<?xml")):
        done = run("--rate", "10000/min", "--chart", str(tmp_path / name), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["month"]["currency"] == "USD"
        assert (tmp_path / name).read_bytes().startswith(start)
    assert "all savings combined" in (tmp_path / "plan.svg").read_text()


def test_invalid_option_is_reported_in_one_line() -> None:
    for arguments, problem in (
        (("--rate", "10000"), "--rate 10000: expected a rate such as 10000/min"),
        (("--rate", "1/s", "--task-vcpu", "3"), "--task-vcpu 3: expected 0.25, 0.5, 1, 2, 4, 8 or"),
        (("--rate", "1/s", "--prices", "nowhere.toml"), "nowhere.toml: No such file"),
        (("--rate", "1/s", "--chart", "plan.pdf"), "--chart plan.pdf: unknown format; use a name"),
    ):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"aup-worker: {problem}")
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
