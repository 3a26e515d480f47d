"""Benchmark of the worker against simpler implementations: `python -m tests.bench`.

Writes results.json, RESULTS.md and charts next to this file, unless only a part is run. With
`--endpoint-url` it compares the variants on that server instead; add `--help` for its options.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from tests.bench import quick
from tests.bench.cost import cost_per_million_messages, read_prices
from tests.bench.fleet import RunError
from tests.bench.harness import PARTS, Bench, BenchmarkPlan, log
from tests.bench.report import markdown
from tests.bench.results import Results
from tests.bench.scenarios import SCENARIOS
from tests.bench.stub.launch import StubError, running_stub
from tests.bench.variants.command import main as variants

_HERE: Final = Path(__file__).parent


def main() -> int:
    """Parse the options, run the benchmark, and report."""
    if any(each.partition("=")[0] == "--endpoint-url" for each in sys.argv):
        variants()
        return 0
    arguments = _parser().parse_args()
    if arguments.render:
        folder = arguments.output or _HERE
        write(Results.model_validate_json((folder / "results.json").read_text()), folder)
        return 0
    try:
        plan = plan_of(arguments)
    except ValueError as error:
        log(f"bench: {error}")
        return 2
    try:
        with running_stub() as stub:
            results = Bench(stub, plan).run()
    except (RunError, StubError) as error:
        log(f"bench: {error}")
        return 1
    folder = arguments.output or (None if arguments.quick or arguments.only else _HERE)
    if arguments.peers:
        results = with_peers(results, folder or _HERE)
    if folder is not None:
        write(results, folder)
    print(markdown(results, read_prices()))  # noqa: T201 - the result
    return _report_checks(results) if arguments.quick and not arguments.only else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare the worker with simpler implementations.")
    parts = ", ".join([*SCENARIOS, *PARTS])
    parser.add_argument(
        "--quick",
        action="store_true",
        help="Reduced run that checks the ratios and exits with 1 if one fails.",
    )
    parser.add_argument(
        "--render", action="store_true", help="Render the report again without running anything."
    )
    parser.add_argument(
        "--only", metavar="PARTS", help=f"Comma-separated list of {parts}; writes no files."
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="Run only the comparison with other consumers; keep the other results.",
    )
    parser.add_argument("--rounds", type=int, help="Interleaved rounds.")
    parser.add_argument(
        "--messages", metavar="D=5000,C=500", help="Messages for scenarios by name."
    )
    parser.add_argument(
        "--growth", metavar="10000,100000", help="Numbers of messages for the growth part."
    )
    parser.add_argument("--sizes-kib", metavar="0.4,4,64", type=_numbers)
    parser.add_argument(
        "--latencies-ms", metavar="0/0,8/5", type=_latencies, help="Pairs for SQS and DynamoDB."
    )
    parser.add_argument("--peer-rounds", type=int, help="Interleaved rounds of the peers.")
    parser.add_argument("--case-messages", type=int, help="Messages for a size or a latency.")
    parser.add_argument("--idle-seconds", type=float)
    parser.add_argument("--lone-messages", type=int)
    parser.add_argument("--stub-messages", type=int)
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", help="Setting of every worker."
    )
    parser.add_argument("--output", type=Path, help="Directory for results.json and the report.")
    return parser


def plan_of(arguments: argparse.Namespace) -> BenchmarkPlan:
    """Convert options into a plan.

    Raises:
        ValueError: A name or a number is invalid.
    """
    plan = quick.PLAN if arguments.quick else BenchmarkPlan()
    if arguments.peers:
        plan = replace(plan, scenarios=(), parts=("peers",))
    if arguments.only:
        names = arguments.only.split(",")
        unknown = set(names) - set(SCENARIOS) - set(PARTS)
        if unknown:
            raise ValueError(f"--only: unknown part {', '.join(sorted(unknown))}")
        plan = replace(
            plan,
            scenarios=tuple(name for name in names if name in SCENARIOS),
            parts=tuple(name for name in names if name in PARTS),
        )
    changes: dict[str, Any] = {
        field.name: getattr(arguments, field.name)
        for field in fields(BenchmarkPlan)
        if getattr(arguments, field.name, None) is not None
    }
    if "growth" in changes:
        changes["growth"] = tuple(map(int, _numbers(changes["growth"])))
    if "messages" in changes:
        pairs = _pairs(changes["messages"].split(","))
        changes["messages"] = {**plan.messages, **{name: int(n) for name, n in pairs.items()}}
    if arguments.set:
        changes["settings"] = _pairs(arguments.set)
    return replace(plan, **changes)


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def _latencies(text: str) -> tuple[tuple[float, float], ...]:
    pairs = [pair.partition("/") for pair in text.split(",")]
    return tuple((float(sqs), float(table or sqs)) for sqs, _, table in pairs)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"{', '.join(wrong)}: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


def with_peers(measured: Results, folder: Path) -> Results:
    """Return the stored results with the peers of a new run, or only these if none are stored."""
    stored = folder / "results.json"
    if not stored.exists():
        return measured
    kept = Results.model_validate_json(stored.read_text())
    baseline = SCENARIOS["baseline"].title
    not_run = {name: reason for name, reason in kept.not_run.items() if name == baseline}
    return kept.model_copy(
        update={"peers": measured.peers, "not_run": {**not_run, **measured.not_run}}
    )


def write(results: Results, folder: Path) -> None:
    """Write the figures, the report and the charts, with costs at current prices."""
    # Imported here, because matplotlib takes a second to load and most runs draw nothing.
    from tests.bench.charts import draw  # noqa: PLC0415

    prices = read_prices()
    costs = {
        name: cost_per_million_messages(measured, prices)
        for name, measured in results.scenarios.items()
    }
    results = results.model_copy(update={"cost_per_million_messages": costs})
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(results.model_dump_json(indent=2) + "\n")
    (folder / "RESULTS.md").write_text(markdown(results, prices))
    draw(results, prices, folder / "charts")


def _report_checks(results: Results) -> int:
    failed = [target for target in quick.checks(results) if not target.met]
    for target in failed:
        bound = f"{'at least' if target.least else 'at most'} {target.bound:g}"
        log(f"FAILED {target.what}: {target.value:.4g}, must be {bound}")
    log("bench: all checks passed" if not failed else f"bench: {len(failed)} checks failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
