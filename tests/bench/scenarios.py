"""What is measured: the ways to do the same work, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from tests.bench.stub.messages import body
from tests.bench.stub.tally import Conditions

SMALLEST_KIB: Final = 0.4


@dataclass(frozen=True)
class Scenario:
    """A way to do the work.

    Attributes:
        name: a letter, and `-tls` where it speaks TLS.
        title: what it does, for tables.
        module: what is run, by `python -m`.
        processes: how many of it.
        messages: how many are enough for a steady figure.
    """

    name: str
    title: str
    module: tuple[str, ...]
    messages: int
    processes: int = 1

    @property
    def tls(self) -> bool:
        """Say whether it speaks TLS."""
        return self.name.endswith("-tls")

    @property
    def is_worker(self) -> bool:
        """Say whether it is the worker itself."""
        return self.module[0] == "worker"


_WORKER: Final = ("worker", "run")
_RECIPES: Final = "tests.bench.variants.implementations"
_PLAIN: Final = (
    Scenario("A", "new session and clients for each message", (_RECIPES, "A"), 40),
    Scenario("B", "a resource opened in every call", (_RECIPES, "B"), 150),
    Scenario("C", "shared clients, a call for each step", (_RECIPES, "C"), 3_000),
    Scenario("D", "the worker", _WORKER, 40_000),
    Scenario("E", "the worker in two processes", _WORKER, 80_000, processes=2),
)
SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            *_PLAIN,
            *(
                replace(each, name=f"{each.name}-tls", title=f"{each.title}, TLS")
                for each in _PLAIN
                if each.processes == 1
            ),
        )
    }
)


@dataclass(frozen=True)
class Work:
    """What one run has to do.

    Attributes:
        warm_up: share of the messages after which measuring begins.
        marks: numbers of settled messages at which memory is read as well.
        settings: of the worker, beside its defaults.
    """

    messages: int
    message_kib: float = SMALLEST_KIB
    sqs_latency_ms: float = 0.0
    dynamodb_latency_ms: float = 0.0
    warm_up: float = 0.2
    marks: tuple[int, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def warm_messages(self) -> int:
        """After how many settled messages measuring begins: whole receives of ten."""
        return min(self.messages - 1, -(-round(self.messages * self.warm_up) // 10) * 10)

    def conditions(self) -> Conditions:
        """What the stub is told; messages are offered later."""
        return Conditions(
            message_bytes=message_bytes(self.message_kib),
            sqs_latency_seconds=self.sqs_latency_ms / 1000,
            dynamodb_latency_seconds=self.dynamodb_latency_ms / 1000,
        )


def message_bytes(kib: float) -> int:
    """Turn a size into the length of a body; the smallest is as long as its fields."""
    return max(round(kib * 1024), len(body(0)))


@dataclass(frozen=True)
class Concurrency:
    """The worker's settings that bound how much is under way.

    Attributes:
        slots: messages held at once.
        polls: polls under way.
        writes: writes under way.
        settles: deletes under way.
    """

    slots: int
    polls: int
    writes: int
    settles: int

    def settings(self) -> dict[str, str]:
        """Write them as environment variables."""
        return {
            "AUP_SLOTS": str(self.slots),
            "AUP_POLL_CONCURRENCY": str(self.polls),
            "AUP_WRITE_CONCURRENCY": str(self.writes),
            "AUP_SETTLE_CONCURRENCY": str(self.settles),
        }

    def bounds(self, sqs_latency_ms: float, dynamodb_latency_ms: float) -> dict[str, float]:
        """Give the most messages a second that each setting allows, by Little's law.

        A slot is held from the start of a poll to the answer of the delete. Batches are full.
        """
        sqs, table = sqs_latency_ms / 1000, dynamodb_latency_ms / 1000
        bounds = {
            "AUP_SLOTS": _rate(self.slots, 2 * sqs + table),
            "AUP_POLL_CONCURRENCY": _rate(10 * self.polls, sqs),
            "AUP_WRITE_CONCURRENCY": _rate(25 * self.writes, table),
            "AUP_SETTLE_CONCURRENCY": _rate(10 * self.settles, sqs),
        }
        return {name: rate for name, rate in bounds.items() if rate is not None}


def _rate(under_way: int, seconds: float) -> float | None:
    return under_way / seconds if seconds else None
