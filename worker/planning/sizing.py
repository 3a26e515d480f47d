"""How many tasks of what size a rate takes, and the settings that let them reach it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from worker.aws.prices import Measured
from worker.errors import UsageError
from worker.settings import AWSSettings, Settings

SECONDS_BY_UNIT: Final = MappingProxyType({"s": 1, "min": 60, "h": 3600, "day": 86_400})
_RATE: Final = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)/(s|min|h|day)")
_MOST_PER_SECOND: Final = 1e8

# vCPU and least memory in MiB: Amazon ECS developer guide, "Task CPU and memory" on Fargate. One
# process has one thread that works, so that more than a vCPU would stand idle.
TASK_SIZES: Final = ((0.25, 512), (0.5, 1024), (1.0, 2048))
_RECEIVED_BY_A_CALL: Final = 10
_WRITTEN_BY_A_CALL: Final = 25
# Batches are not always full, and answers do not come evenly: what the bench found to be enough.
_MARGIN: Final = 4
# What the settings allow.
_MOST_CALLS: Final = 200
_MOST_WRITES: Final = 1000
_MOST_SLOTS: Final = 100_000
_LEAST_TASKS_MAX: Final = 10
ACCEPTABLE_WAIT_SECONDS: Final = 60
OUT_COOLDOWN_SECONDS: Final = 240
IN_COOLDOWN_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked for.

    Attributes:
        rate: messages a second, as long as it lasts.
        record_bytes: size of the item that is written.
        utilisation: share of the CPU that is planned to be busy.
        burst: how many times the rate the service must be able to grow to.
        sqs_ms: latency of a call to SQS.
        dynamodb_ms: latency of a call to DynamoDB.
        task_vcpu: size of a task; None for the smallest that suits.
    """

    rate: float
    record_bytes: int
    utilisation: float
    burst: float
    sqs_ms: float
    dynamodb_ms: float
    task_vcpu: float | None = None

    @property
    def write_units(self) -> int:
        """Write units of a record: one for each KB begun."""
        return math.ceil(self.record_bytes / 1024)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The tasks that a demand takes.

    Attributes:
        cpu_us: CPU of a message.
        cores: CPU seconds a second, in all.
        task_rate: messages a second of a task at full CPU.
        tasks: needed at the rate, at the planned utilisation.
        tasks_max: what auto scaling may grow to.
        process_mb: memory that a worker may take.
        in_flight: messages received and not yet deleted, on average.
        settings: `AUP_…` beside the defaults.
    """

    cpu_us: float
    cores: float
    task_vcpu: float
    task_memory_mib: int
    task_rate: float
    planned_rate: float
    tasks: int
    tasks_max: int
    process_mb: float
    held_seconds: float
    in_flight: float
    settings: dict[str, int]

    @property
    def slots(self) -> int:
        """Messages that a task holds at most."""
        return self.settings.get("AUP_SLOTS", _default("slots"))

    @property
    def backlog_per_task(self) -> int:
        """Target of the scaling policy: what a task records in the acceptable wait, rounded."""
        return two_digits(ACCEPTABLE_WAIT_SECONDS * self.planned_rate)


def two_digits(number: float) -> int:
    """Round to two digits that count."""
    return int(float(f"{number:.1e}"))


def rate_per_second(text: str) -> float:
    """Read a rate such as `10000/min`.

    Raises:
        UsageError: it is none.
    """
    found = _RATE.fullmatch(text.replace(" ", ""))
    rate = 0.0
    if found is not None:
        number, unit = found.groups()
        rate = float(number.replace(",", "").replace("_", "")) / SECONDS_BY_UNIT[unit]
    if not 0 < rate <= _MOST_PER_SECOND:
        raise UsageError(f"--rate {text}: must be like 10000/min, with /s, /min, /h or /day")
    return rate


def size(demand: Demand, measured: Measured) -> Fleet:
    """Find the tasks for a demand."""
    cpu_us = cpu_per_message_us(demand.record_bytes, measured)
    vcpu, memory_mib = _task_size(demand, cpu_us)
    full = min(vcpu * 1e6 / cpu_us, _most_under_way(demand, measured))
    planned = full * demand.utilisation
    tasks = max(1, math.ceil(demand.rate / planned - 1e-9))
    held = (measured.settling_ms + 2 * demand.sqs_ms + demand.dynamodb_ms) / 1000
    return Fleet(
        cpu_us=cpu_us,
        cores=demand.rate * cpu_us / 1e6,
        task_vcpu=vcpu,
        task_memory_mib=memory_mib,
        task_rate=full,
        planned_rate=planned,
        tasks=tasks,
        tasks_max=max(_LEAST_TASKS_MAX, math.ceil(tasks * demand.burst - 1e-9)),
        process_mb=measured.rss_mb + _default("held_mib") * 1024**2 / 1e6,
        held_seconds=held,
        in_flight=demand.rate * held,
        settings=_settings(full, demand),
    )


def cpu_per_message_us(record_bytes: int, measured: Measured) -> float:
    """Give the CPU of a message in µs; what is longer than the bench's costs by the KiB."""
    body = record_bytes - measured.record_bytes_beside_body
    further_kib = max(0, body - measured.body_bytes) / 1024
    return measured.cpu_us_per_message + further_kib * measured.cpu_us_per_further_kib


def _task_size(demand: Demand, cpu_us: float) -> tuple[float, int]:
    for vcpu, memory_mib in TASK_SIZES:
        enough = vcpu * demand.utilisation * 1e6 / cpu_us >= demand.rate
        if vcpu == demand.task_vcpu or (demand.task_vcpu is None and enough):
            return vcpu, memory_mib
    return TASK_SIZES[-1]


def _settings(rate: float, demand: Demand) -> dict[str, int]:
    """Size what is under way by Little's law; where the defaults suffice, nothing is to be set."""
    sqs, table = demand.sqs_ms / 1000, demand.dynamodb_ms / 1000
    wanted = _MARGIN * rate
    calls = math.ceil(wanted * sqs / _RECEIVED_BY_A_CALL)
    needed = {
        "AUP_SLOTS": (math.ceil(wanted * (2 * sqs + table)), _default("slots"), _MOST_SLOTS),
        "AUP_POLL_CONCURRENCY": (calls, _default("poll_concurrency"), _MOST_CALLS),
        "AUP_SETTLE_CONCURRENCY": (calls, _default("settle_concurrency"), _MOST_CALLS),
        "AUP_WRITE_CONCURRENCY": (
            math.ceil(wanted * table / _WRITTEN_BY_A_CALL),
            AWSSettings.model_fields["write_concurrency"].default,
            _MOST_WRITES,
        ),
    }
    return {
        name: min(number, most)
        for name, (number, default, most) in needed.items()
        if number > default
    }


def _most_under_way(demand: Demand, measured: Measured) -> float:
    """Give the messages a second that the largest settings allow at these latencies."""
    sqs, held = demand.sqs_ms / 1000, (2 * demand.sqs_ms + demand.dynamodb_ms) / 1000
    body = max(1, demand.record_bytes - measured.record_bytes_beside_body)
    slots = min(_MOST_SLOTS, _default("held_mib") * 1024**2 / body)
    bounds = (
        (_MOST_CALLS * _RECEIVED_BY_A_CALL, sqs),
        (_MOST_WRITES * _WRITTEN_BY_A_CALL, demand.dynamodb_ms / 1000),
        (slots, held),
    )
    return min((most / seconds for most, seconds in bounds if seconds), default=math.inf)


def _default(name: str) -> int:
    return int(Settings.model_fields[name].default)
