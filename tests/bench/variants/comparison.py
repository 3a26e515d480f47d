"""Ways to do the same work, measured in interleaved rounds on queues and tables of their own."""

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

from tests.bench.variants.environment import made_for_trials
from tests.bench.variants.implementations import WAYS as PLAIN_WAYS
from tests.bench.variants.run import Trial
from worker.aws.queue_lookup import open_queues
from worker.domain.policy import Policy
from worker.errors import BenchError
from worker.operations.push import Line, push
from worker.repository import AUPRepository
from worker.settings import Settings

WAYS: Final[Mapping[str, str]] = MappingProxyType(
    {**PLAIN_WAYS, "D": "the worker", "E": "the worker in two processes"}
)
_PROCESSES: Final = {"E": 2}
# The dear ways get a share of the messages: their figures are steady after few.
_SHARES: Final = {"A": 40, "B": 10}
_LEAST_MESSAGES: Final = 40
_TRIAL_SECONDS: Final = 600.0
_POLICY, _VERSION, _TEXT = "acceptable-use", "2026-01", "Be kind. Do not send spam."
_TEXT_SHA256: Final = hashlib.sha256(_TEXT.encode()).hexdigest()
_QUOTED_CHARACTERS: Final = 600


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over all rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Sum up what was measured."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    Attributes:
        ways: letters of `WAYS`, in the order of each round.
        messages: in each trial; `messages_for` says how many a way gets.
    """

    ways: tuple[str, ...]
    messages: int
    rounds: int

    def messages_for(self, way: str) -> int:
        """Say how many messages a trial of this way gets."""
        return max(_LEAST_MESSAGES, self.messages // _SHARES.get(way, 1))

    @property
    def total_messages(self) -> int:
        """How many messages all trials get."""
        return self.rounds * sum(map(self.messages_for, self.ways))


@dataclass(slots=True)
class Comparison:
    """What was measured.

    Attributes:
        trials: by way, one for each round.
    """

    plan: Plan
    trials: dict[str, list[Trial]] = field(default_factory=dict)

    def figures(self, way: str) -> dict[str, Spread]:
        """Give a way's figures over all rounds."""
        rounds = [_figures(trial) for trial in self.trials[way]]
        return {name: Spread.of([each[name] for each in rounds]) for name in rounds[0]}

    def calls(self, way: str) -> dict[str, float]:
        """Give a way's calls for each message, by operation."""
        calls = sum((Counter(trial.calls) for trial in self.trials[way]), Counter[str]())
        messages = sum(trial.messages for trial in self.trials[way])
        return {operation: count / messages for operation, count in sorted(calls.items())}

    def ratios(self, way: str) -> dict[str, Spread]:
        """Give how many times a way's cost another has, round by round."""
        own = [_figures(trial)["cpu_us_per_message"] for trial in self.trials[way]]
        return {
            other: Spread.of(
                [_figures(trial)["cpu_us_per_message"] / cpu
                 for trial, cpu in zip(trials, own, strict=True)]
            )
            for other, trials in self.trials.items()
            if other != way
        }  # fmt: skip

    def report(self) -> dict[str, Any]:
        """Give everything, for JSON."""
        return {
            "rounds": self.plan.rounds,
            "ways": {
                way: {
                    "title": WAYS[way],
                    "messages": self.plan.messages_for(way),
                    "calls_by_operation": self.calls(way),
                    **{name: asdict(spread) for name, spread in self.figures(way).items()},
                }
                for way in self.trials
            },
            "cpu_ratios": {
                f"{other}/{way}": asdict(spread)
                for way in self.trials
                for other, spread in self.ratios(way).items()
            },
        }


def _figures(trial: Trial) -> dict[str, float]:
    return {
        "cpu_us_per_message": 1e6 * trial.cpu_seconds / trial.messages,
        "messages_per_second": trial.messages / trial.seconds,
        "messages_per_cpu_second": trial.messages / trial.cpu_seconds,
        "calls_per_message": sum(trial.calls.values()) / trial.messages,
        "connections": trial.connections,
        "tls_handshakes": trial.tls_handshakes,
        "rss_mb": trial.rss_mb,
        "p50_ms": trial.p50_ms,
        "p99_ms": trial.p99_ms,
        "start_seconds": trial.start_seconds,
    }


async def compare(
    settings: Settings, plan: Plan, progress: Callable[[str, int], None]
) -> Comparison:
    """Measure every way in interleaved rounds; what was made for it is removed.

    Args:
        settings: of the worker; its queues and tables are not touched.
        plan: what is measured.
        progress: told what is under way, and how many messages are done with.

    Raises:
        BenchError: a trial did not go as it must.
        AWSError: queues and tables could not be made, filled or removed.
    """
    comparison = Comparison(plan)
    done = 0
    async with made_for_trials(settings, f"aup-bench-{secrets.token_hex(4)}") as place:
        await _publish(place)
        for number in range(plan.rounds):
            for way in plan.ways:
                progress(f"round {number + 1}: {way}, {WAYS[way]}", done)
                trial = await _try(place, way, plan.messages_for(way))
                comparison.trials.setdefault(way, []).append(trial)
                done += plan.messages_for(way)
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


async def _try(settings: Settings, way: str, count: int) -> Trial:
    async with open_queues(settings) as (source, _):
        figures = await push(source, _lines(count))
    if figures.failed:
        raise BenchError(f"{figures.failed} messages could not be sent: {figures.last_error}")
    processes = _PROCESSES.get(way, 1)
    began_at = time.monotonic()
    trials = await asyncio.gather(
        *(_trial(settings, way, count // processes, began_at) for _ in range(processes))
    )
    return _together(trials)


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


async def _trial(settings: Settings, way: str, count: int, began_at: float) -> Trial:
    module = (
        "-m",
        "tests.bench.variants.run",
        "D" if way == "E" else way,
        str(count),
        str(began_at),
    )
    async with _process(module, _environment(settings)) as process:
        try:
            async with asyncio.timeout(_TRIAL_SECONDS):
                out, told = await process.communicate()
        except TimeoutError:
            raise BenchError(f"{way}: not done within {_TRIAL_SECONDS:g} s") from None
    if process.returncode != 0:
        lines = told.decode(errors="replace").strip().splitlines() or ["no word"]
        raise BenchError(
            f"{way}: ended with {process.returncode}: {lines[-1][:_QUOTED_CHARACTERS]}"
        )
    return Trial(**json.loads(out))


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
        "AWS_DEFAULT_REGION": aws.region,  # the plain ways know no other
        "AWS_ENDPOINT_URL_SQS": aws.sqs_endpoint_url,
        "AWS_ENDPOINT_URL_DYNAMODB": aws.dynamodb_endpoint_url,
        "AUP_QUEUE": settings.queue,
        "AUP_DEAD_LETTER_QUEUE": settings.dead_letter_queue,
        "AUP_TABLE_NAME": aws.table_name,
        "AUP_USER_TABLE_NAME": aws.user_table_name,
        # Its last poll would wait so long for nothing.
        "AUP_WAIT_SECONDS": "1",
    }
    return {**os.environ, **{name: value for name, value in named.items() if value is not None}}


def _together(trials: Sequence[Trial]) -> Trial:
    """Add up processes that shared the work, however unevenly."""
    if not any(each.messages for each in trials):
        raise BenchError("no message was settled")
    if len(trials) == 1:
        return trials[0]
    return Trial(
        messages=sum(each.messages for each in trials),
        seconds=max(each.seconds for each in trials),
        cpu_seconds=sum(each.cpu_seconds for each in trials),
        calls=dict(sum((Counter(each.calls) for each in trials), Counter[str]())),
        p50_ms=max(each.p50_ms for each in trials),
        p99_ms=max(each.p99_ms for each in trials),
        connections=sum(each.connections for each in trials),
        tls_handshakes=sum(each.tls_handshakes for each in trials),
        rss_mb=max(each.rss_mb for each in trials),
        start_seconds=max(each.start_seconds for each in trials),
    )
