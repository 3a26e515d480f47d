"""The reduced benchmark: checks that pass on any machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.bench.harness import BenchmarkPlan, pools
from tests.bench.results import Measured, Results
from tests.bench.targets import Target, calls

PLAN: Final = BenchmarkPlan(
    scenarios=("A", "B", "C", "D", "B-tls", "C-tls", "D-tls"),
    parts=("stub", "idle"),
    rounds=1,
    messages={
        "A": 20, "B": 60, "C": 800, "D": 8_000, "B-tls": 40, "C-tls": 400, "D-tls": 4_000,
    },
    idle_seconds=3.0,
    stub_messages=10_000,
)  # fmt: skip
# Relaxes the ratios, because a short run on a busy machine is less certain. The baseline and the
# peers are not run, because their installation takes longer than all of these runs.
_CERTAINTY: Final = 0.6
# Batches are less full while a run begins and ends.
_SPARE: Final = 1.02


def checks(results: Results) -> Iterator[Target]:
    """Check calls, connections and ratios of a reduced run, never absolute times."""
    for name in ("D", "D-tls"):
        worker = results.scenarios[name]
        for target in calls(worker):
            yield _of(name, target, _SPARE)
        most = pools({})
        yield Target(f"{name}: connections", worker.connections, most)
        yield Target(f"{name}: write units per message", worker.write_units_per_message, 1)
    yield from _simpler_variants(results.scenarios)
    for name, least in (("A/D", 1_000), ("B/D", 50), ("C/D", 26)):
        value = results.ratios[f"cpu {name}"].median
        yield Target(f"CPU per message, {name}", value, least * _CERTAINTY, least=True)
    assert results.idle is not None
    yield Target("idle: calls in 3 s", results.idle.calls, 1)
    stub = sum(served.cpu_us_per_message for served in results.stub)
    outrun = results.scenarios["D"].cpu_us_per_message / stub
    yield Target("CPU of the worker, relative to the stub", outrun, 3, least=True)


def _of(name: str, target: Target, spare: float) -> Target:
    return Target(f"{name}: {target.what}", target.value, target.bound * spare, target.least)


def _simpler_variants(scenarios: dict[str, Measured]) -> Iterator[Target]:
    """Check that the simpler variants make the calls and connections that define them."""
    for name, least in (("A", 1.9), ("B", 0.9), ("B-tls", 0.9)):
        value = scenarios[name].connections_per_message
        yield Target(f"{name}: connections per message", value, least, least=True)
    for name in ("A", "B", "C", "B-tls", "C-tls"):
        value = scenarios[name].calls_per_message
        yield Target(f"{name}: calls per message", value, 2.1, least=True)
    for name in ("B-tls", "C-tls", "D-tls"):
        measured = scenarios[name]
        value = measured.tls_handshakes / measured.connections
        yield Target(f"{name}: handshakes per connection", value, 1)
        yield Target(f"{name}: handshakes per connection", value, 1, least=True)
