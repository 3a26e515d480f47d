"""Scenarios of the benchmark and the conditions they run under."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from tests.bench import baseline
from tests.bench.stub.launch import ROOT
from tests.bench.stub.messages import body
from tests.bench.stub.tally import Conditions

SMALLEST_KIB: Final = 0.4
EXTRA_KIB: Final = 4.0


@dataclass(frozen=True)
class Scenario:
    """A variant to measure.

    Attributes:
        name: Letter of the variant, with `-tls` if it uses TLS, and `-extra` if bodies of 4 KiB
            have unknown fields.
        title: Description for tables.
        module: Module and arguments for the interpreter.
        messages: Number of messages that gives steady figures.
        processes: Number of processes.
        interpreter: Words of the command before the module.
        folder: Working directory.
        writes: Whether it writes an item for each message.
    """

    name: str
    title: str
    module: tuple[str, ...]
    messages: int
    processes: int = 1
    interpreter: tuple[str, ...] = (sys.executable, "-m")
    folder: Path = ROOT
    writes: bool = True

    @property
    def tls(self) -> bool:
        """Whether it uses TLS."""
        return self.name.endswith("-tls")

    @property
    def is_worker(self) -> bool:
        """Whether it runs the worker."""
        return self.module[0] == "worker"

    @property
    def is_baseline(self) -> bool:
        """Whether it runs release 0.1.0."""
        return self.name.startswith("baseline")

    def work(self, messages: int) -> Work:
        """Return the work of one run with this number of messages."""
        if self.name.endswith("-extra"):
            return Work(messages, message_kib=EXTRA_KIB, unknown_fields=True)
        return Work(messages)


_WORKER: Final = ("worker", "run")
_IMPLEMENTATIONS: Final = "tests.bench.variants.implementations"
_WITHOUT_TLS: Final = (
    Scenario("A", "new session and clients for each message", (_IMPLEMENTATIONS, "A"), 40),
    Scenario("B", "a resource opened in every call", (_IMPLEMENTATIONS, "B"), 150),
    Scenario("C", "shared clients, a call for each step", (_IMPLEMENTATIONS, "C"), 3_000),
    Scenario("D", "the worker", _WORKER, 40_000),
    Scenario(
        "baseline",
        "release 0.1.0 of the worker",
        _WORKER,
        40_000,
        interpreter=(str(baseline.PYTHON), "-m"),
        folder=baseline.SOURCE,
    ),
    Scenario(
        "E", "the worker in two processes", (*_WORKER, "--processes", "2"), 80_000, processes=2
    ),
)
SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        scenario.name: scenario
        for scenario in (
            *_WITHOUT_TLS,
            *(
                replace(each, name=f"{each.name}-tls", title=f"{each.title}, TLS")
                for each in _WITHOUT_TLS
                if each.processes == 1
            ),
            *(
                replace(
                    each,
                    name=f"{each.name}-extra",
                    title=f"{each.title}, 4 KiB with unknown fields",
                    messages=20_000,
                )
                for each in _WITHOUT_TLS
                if each.module is _WORKER and each.processes == 1
            ),
        )
    }
)


@dataclass(frozen=True)
class Work:
    """Messages and conditions of one run.

    Attributes:
        warm_up: Share of the messages before the measurement begins.
        marks: Additional numbers of settled messages at which memory is read.
        settings: Settings of the worker that differ from its defaults.
    """

    messages: int
    message_kib: float = SMALLEST_KIB
    unknown_fields: bool = False
    sqs_latency_ms: float = 0.0
    dynamodb_latency_ms: float = 0.0
    warm_up: float = 0.2
    marks: tuple[int, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def warm_messages(self) -> int:
        """Settled messages before the measurement begins, a multiple of ten."""
        return min(self.messages - 1, -(-round(self.messages * self.warm_up) // 10) * 10)

    def conditions(self) -> Conditions:
        """Return the conditions for the stub; messages are added later."""
        return Conditions(
            message_bytes=message_bytes(self.message_kib),
            unknown_fields=self.unknown_fields,
            sqs_latency_seconds=self.sqs_latency_ms / 1000,
            dynamodb_latency_seconds=self.dynamodb_latency_ms / 1000,
        )


def message_bytes(kib: float) -> int:
    """Return the length of a body, at least that of its fields."""
    return max(round(kib * 1024), len(body(0)))


@dataclass(frozen=True)
class Concurrency:
    """Settings of the worker that limit concurrency.

    Attributes:
        slots: Messages held at the same time.
        polls: Concurrent polls.
        writes: Concurrent writes.
        settles: Concurrent deletes.
    """

    slots: int
    polls: int
    writes: int
    settles: int

    def bounds(self, sqs_latency_ms: float, dynamodb_latency_ms: float) -> dict[str, float]:
        """Return the maximum messages per second of each setting, by Little's law.

        A slot is held from the start of a poll to the response of the delete. Batches are full.
        """
        sqs, table = sqs_latency_ms / 1000, dynamodb_latency_ms / 1000
        bounds = {
            "AUP_SLOTS": _rate(self.slots, 2 * sqs + table),
            "AUP_POLL_CONCURRENCY": _rate(10 * self.polls, sqs),
            "AUP_WRITE_CONCURRENCY": _rate(25 * self.writes, table),
            "AUP_SETTLE_CONCURRENCY": _rate(10 * self.settles, sqs),
        }
        return {name: rate for name, rate in bounds.items() if rate is not None}


def _rate(in_flight: int, seconds: float) -> float | None:
    return in_flight / seconds if seconds else None
