"""Comparison of variants in interleaved rounds on temporary queues and tables."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median
from types import MappingProxyType
from typing import Any, Final

from tests.bench.variants.environment import temporary_resources
from tests.bench.variants.implementations import VARIANTS as SIMPLER_VARIANTS
from tests.bench.variants.run import RunFigures
from worker.aws.sqs import open_queues
from worker.domain.policy import Policy
from worker.errors import BenchError
from worker.operations.push import Line, push
from worker.repository import AUPRepository
from worker.settings import Settings

VARIANTS: Final[Mapping[str, str]] = MappingProxyType(
    {**SIMPLER_VARIANTS, "D": "the worker", "E": "the worker in two processes"}
)
_PROCESSES: Final = {"E": 2}
# The slow variants get a share of the messages: their figures are steady after few.
_SHARES: Final = {"A": 40, "B": 10}
_MIN_MESSAGES: Final = 40
_RUN_SECONDS: Final = 600.0
_POLICY, _VERSION, _TEXT = "acceptable-use", "2026-01", "Be kind. Do not send spam."
_TEXT_SHA256: Final = hashlib.sha256(_TEXT.encode()).hexdigest()
_QUOTED_CHARACTERS: Final = 600


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum of a figure over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarize the values of all rounds."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """Variants, messages and rounds of a comparison.

    Attributes:
        variants: Letters of `VARIANTS`, in the order of each round.
        messages: Messages per run; see `messages_for` for the share of each variant.
    """

    variants: tuple[str, ...]
    messages: int
    rounds: int

    def messages_for(self, variant: str) -> int:
        """Return the number of messages in a run of a variant."""
        return max(_MIN_MESSAGES, self.messages // _SHARES.get(variant, 1))

    @property
    def total_messages(self) -> int:
        """Number of messages in all runs."""
        return self.rounds * sum(map(self.messages_for, self.variants))


@dataclass(slots=True)
class Comparison:
    """Results of a comparison.

    Attributes:
        runs: Figures by variant, one for each round.
    """

    plan: ComparisonPlan
    runs: dict[str, list[RunFigures]] = field(default_factory=dict)

    def figures(self, variant: str) -> dict[str, Spread]:
        """Return the figures of a variant over all rounds."""
        rounds = [_figures(run) for run in self.runs[variant]]
        return {name: Spread.of([each[name] for each in rounds]) for name in rounds[0]}

    def calls(self, variant: str) -> dict[str, float]:
        """Return the calls per message of a variant by operation."""
        calls = sum((Counter(run.calls) for run in self.runs[variant]), Counter[str]())
        messages = sum(run.messages for run in self.runs[variant])
        return {operation: count / messages for operation, count in sorted(calls.items())}

    def ratios(self, variant: str) -> dict[str, Spread]:
        """Return the CPU of every other variant as a multiple of this one, round by round."""
        own = [_figures(run)["cpu_us_per_message"] for run in self.runs[variant]]
        return {
            other: Spread.of(
                [_figures(run)["cpu_us_per_message"] / cpu
                 for run, cpu in zip(runs, own, strict=True)]
            )
            for other, runs in self.runs.items()
            if other != variant
        }  # fmt: skip

    def report(self) -> dict[str, Any]:
        """Return the document that `--json` prints."""
        return {
            "rounds": self.plan.rounds,
            "ways": {
                variant: {
                    "title": VARIANTS[variant],
                    "messages": self.plan.messages_for(variant),
                    "calls_by_operation": self.calls(variant),
                    **{name: asdict(spread) for name, spread in self.figures(variant).items()},
                }
                for variant in self.runs
            },
            "cpu_ratios": {
                f"{other}/{variant}": asdict(spread)
                for variant in self.runs
                for other, spread in self.ratios(variant).items()
            },
        }


def _figures(run: RunFigures) -> dict[str, float]:
    return {
        "cpu_us_per_message": 1e6 * run.cpu_seconds / run.messages,
        "messages_per_second": run.messages / run.seconds,
        "messages_per_cpu_second": run.messages / run.cpu_seconds,
        "calls_per_message": sum(run.calls.values()) / run.messages,
        "connections": run.connections,
        "tls_handshakes": run.tls_handshakes,
        "rss_mb": run.rss_mb,
        "p50_ms": run.p50_ms,
        "p99_ms": run.p99_ms,
        "start_seconds": run.start_seconds,
    }


async def compare(
    settings: Settings, plan: ComparisonPlan, progress: Callable[[str, int], None]
) -> Comparison:
    """Measure every variant in interleaved rounds, and remove the temporary resources.

    Args:
        settings: Settings of the worker; its queues and tables are not used.
        plan: Variants, messages and rounds.
        progress: Called with the current step and the number of processed messages.

    Raises:
        BenchError: A run failed.
        AWSError: Queues and tables could not be created, filled or removed.
    """
    comparison = Comparison(plan)
    done = 0
    async with temporary_resources(settings, f"aup-bench-{secrets.token_hex(4)}") as temporary:
        await _publish(temporary)
        for number in range(plan.rounds):
            for variant in plan.variants:
                progress(f"round {number + 1}: {variant}, {VARIANTS[variant]}", done)
                run = await _run_variant(temporary, variant, plan.messages_for(variant))
                comparison.runs.setdefault(variant, []).append(run)
                done += plan.messages_for(variant)
    return comparison


async def _publish(settings: Settings) -> None:
    now = datetime.now(UTC)
    async with AUPRepository(settings.aws) as repository:
        await repository.publish_policy(
            Policy(
                policy_id=_POLICY,
                version=_VERSION,
                title="Acceptable Use Policy",
                content_sha256=_TEXT_SHA256,
                published_at=now,
                effective_at=now,
            )
        )


async def _run_variant(settings: Settings, variant: str, count: int) -> RunFigures:
    async with open_queues(settings) as (source, _):
        figures = await push(source, _lines(count))
    if figures.failed:
        raise BenchError(f"{figures.failed} messages could not be sent: {figures.failures[0]}")
    processes = _PROCESSES.get(variant, 1)
    started_at = time.monotonic()
    runs = await asyncio.gather(
        *(_run_process(settings, variant, count // processes, started_at) for _ in range(processes))
    )
    return _combine(runs)


def _lines(count: int) -> Iterator[Line]:
    run = secrets.token_hex(6)
    for number in range(count):
        acceptance = {
            "event_id": f"{run}-{number:012}",
            "user_id": f"u-{run}-{number}",
            "policy_id": _POLICY,
            "version": _VERSION,
            "accepted_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "content_sha256": _TEXT_SHA256,
            "locale": "en-GB",
            "method": "clickwrap",
            "channel": "web",
            "ip": "203.0.113.7",
            "user_agent": "Mozilla/5.0",
        }
        yield Line("bench", number + 1, json.dumps(acceptance, separators=(",", ":")))


async def _run_process(
    settings: Settings, variant: str, count: int, started_at: float
) -> RunFigures:
    module = (
        "-m",
        "tests.bench.variants.run",
        "D" if variant == "E" else variant,
        str(count),
        str(started_at),
    )
    async with _process(module, _environment(settings)) as process:
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                out, stderr = await process.communicate()
        except TimeoutError:
            raise BenchError(f"{variant}: not done within {_RUN_SECONDS:g} s") from None
    if process.returncode != 0:
        lines = stderr.decode(errors="replace").strip().splitlines() or ["no output"]
        raise BenchError(
            f"{variant}: ended with {process.returncode}: {lines[-1][:_QUOTED_CHARACTERS]}"
        )
    return RunFigures(**json.loads(out))


@asynccontextmanager
async def _process(
    module: tuple[str, ...], environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *module,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    aws = settings.aws
    named = {
        "AWS_REGION": aws.region,
        "AWS_DEFAULT_REGION": aws.region,  # the only one that the simpler variants read
        "AWS_ENDPOINT_URL_SQS": aws.sqs_endpoint_url,
        "AWS_ENDPOINT_URL_DYNAMODB": aws.dynamodb_endpoint_url,
        "AUP_QUEUE": settings.queue,
        "AUP_DEAD_LETTER_QUEUE": settings.dead_letter_queue,
        "AUP_TABLE_NAME": aws.table_name,
        "AUP_USER_TABLE_NAME": aws.user_table_name,
        # The last poll waits this long for messages that do not come.
        "AUP_WAIT_SECONDS": "1",
    }
    return {**os.environ, **{name: value for name, value in named.items() if value is not None}}


def _combine(runs: Sequence[RunFigures]) -> RunFigures:
    """Combine the figures of processes that shared the work."""
    if not any(each.messages for each in runs):
        raise BenchError("no message was settled")
    if len(runs) == 1:
        return runs[0]
    return RunFigures(
        messages=sum(each.messages for each in runs),
        seconds=max(each.seconds for each in runs),
        cpu_seconds=sum(each.cpu_seconds for each in runs),
        calls=dict(sum((Counter(each.calls) for each in runs), Counter[str]())),
        p50_ms=max(each.p50_ms for each in runs),
        p99_ms=max(each.p99_ms for each in runs),
        connections=sum(each.connections for each in runs),
        tls_handshakes=sum(each.tls_handshakes for each in runs),
        rss_mb=max(each.rss_mb for each in runs),
        start_seconds=max(each.start_seconds for each in runs),
    )
