"""Number and size of tasks for a message rate, and the settings they need."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from worker.aws.prices import Measured
from worker.errors import UsageError
from worker.settings import (
    MAX_CALLS,
    MAX_WRITES,
    AWSSettings,
    Settings,
    calls_for,
    writes_for,
)

_SECONDS_BY_UNIT: Final = {"s": 1, "min": 60, "h": 3600, "day": 86_400}
_RATE: Final = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?)/(s|min|h|day)")
_MAX_PER_SECOND: Final = 1e8

# vCPU and memory in MiB, the minimum of Fargate: Amazon ECS developer guide, "Task CPU and memory".
# A task runs one process for each vCPU, as AUP_PROCESSES=auto does.
TASK_SIZES: Final = (
    (0.25, 512), (0.5, 1024), (1.0, 2048), (2.0, 4096), (4.0, 8192), (8.0, 16_384),
    (16.0, 32_768),
)  # fmt: skip
# Larger tasks only on request: several small ones survive the loss of one, and cost the same.
_LARGEST_PROPOSED_VCPU: Final = 1.0
# Resident memory of the parent of several processes, with its endpoints.
_PARENT_MB: Final = 60
MESSAGES_PER_CALL: Final = 10
_RECORDS_PER_WRITE: Final = 25
# Batches are not always full and latency varies; the benchmark shows that this factor suffices.
_MARGIN: Final = 4
_MAX_SLOTS: Final = 100_000
_MIN_TASKS_MAX: Final = 10
ACCEPTABLE_WAIT_SECONDS: Final = 60
OUT_COOLDOWN_SECONDS: Final = 240
IN_COOLDOWN_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Demand:
    """Demand to plan for.

    Attributes:
        rate: Sustained messages per second.
        record_bytes: Size of a DynamoDB item.
        utilisation: Target CPU utilisation, from 0 to 1.
        burst: Peak rate as a multiple of `rate`.
        sqs_ms: Latency of an SQS call.
        dynamodb_ms: Latency of a DynamoDB call.
        task_vcpu: Size of a task; None for the smallest sufficient one.
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
        """Write units per record: one per started KiB."""
        return math.ceil(self.record_bytes / 1024)

    @property
    def warm_write_units(self) -> int:
        """Write units per second that the table must sustain immediately.

        Source: Amazon DynamoDB developer guide, "Warm throughput": a burst above it, or above twice
        the previous peak, may be throttled for up to 30 minutes.
        """
        return math.ceil(self.rate * self.burst * self.write_units - 1e-9)


@dataclass(frozen=True, slots=True)
class Fleet:
    """Tasks for a demand.

    Attributes:
        cpu_us: CPU time per message.
        cores: Total CPU seconds per second.
        task_rate: Messages per second of a task at full CPU.
        planned_rate: Messages per second of a task at the target utilisation.
        tasks: Number of tasks at the sustained rate.
        tasks_max: Maximum number of tasks for auto scaling.
        process_mb: Maximum memory of a task's processes.
        held_seconds: Time from receiving a message to deleting it.
        in_flight: Average number of messages in flight.
        settings: `AUP_…` settings that differ from their defaults.
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
    def processes(self) -> int:
        """Number of processes of a task."""
        return _processes(self.task_vcpu)

    @property
    def slots(self) -> int:
        """Maximum number of messages in flight per task."""
        return self.processes * self.settings.get("AUP_SLOTS", _default("AUP_SLOTS"))

    @property
    def backlog_per_task(self) -> int:
        """Target of the scaling policy: messages that a task records in the acceptable wait."""
        backlog = ACCEPTABLE_WAIT_SECONDS * self.planned_rate
        return int(float(f"{backlog:.1e}"))  # two significant digits


def rate_per_second(text: str) -> float:
    """Parse a rate such as `10000/min`.

    Returns:
        Messages per second.

    Raises:
        UsageError: The rate is invalid or too high.
    """
    found = _RATE.fullmatch(text.replace(" ", ""))
    rate = 0.0
    if found is not None:
        number, unit = found.groups()
        rate = float(number.replace(",", "").replace("_", "")) / _SECONDS_BY_UNIT[unit]
    if not 0 < rate <= _MAX_PER_SECOND:
        raise UsageError(
            f"--rate {text}: expected a rate such as 10000/min, in /s, /min, /h or /day"
        )
    return rate


def size(demand: Demand, measured: Measured) -> Fleet:
    """Return the tasks for a demand."""
    cpu_us = cpu_us_per_message(demand.record_bytes, measured)
    vcpu, memory_mib = _task_size(demand, cpu_us)
    full = min(vcpu * 1e6 / cpu_us, _latency_bound(demand, measured, _processes(vcpu)))
    planned = full * demand.utilisation
    tasks = max(1, math.ceil(demand.rate / planned - 1e-9))
    held_seconds = (measured.settling_ms + 2 * demand.sqs_ms + demand.dynamodb_ms) / 1000
    return Fleet(
        cpu_us=cpu_us,
        cores=demand.rate * cpu_us / 1e6,
        task_vcpu=vcpu,
        task_memory_mib=memory_mib,
        task_rate=full,
        planned_rate=planned,
        tasks=tasks,
        tasks_max=max(_MIN_TASKS_MAX, math.ceil(tasks * demand.burst - 1e-9)),
        process_mb=_memory_mb(_processes(vcpu), measured),
        held_seconds=held_seconds,
        in_flight=demand.rate * held_seconds,
        settings=_settings(full, demand, _processes(vcpu)),
    )


def cpu_us_per_message(record_bytes: int, measured: Measured) -> float:
    """Return the CPU time per message in µs on a slow core.

    It is linear in the size above that of the benchmark.
    """
    further_kib = max(0, body_bytes(record_bytes, measured) - measured.body_bytes) / 1024
    return measured.slow_core_factor * (
        measured.cpu_us_per_message + further_kib * measured.cpu_us_per_further_kib
    )


def body_bytes(record_bytes: int, measured: Measured) -> int:
    """Return the size of the message body of a record."""
    return max(1, record_bytes - measured.record_overhead_bytes)


def messages_per_call(rate: float, seconds: float) -> float:
    """Return the average number of messages in a call that is repeated as soon as it has ended.

    It gets what arrived during the call before, or waits for the first message. For independent
    arrivals that is rate x seconds + e^-(rate x seconds), and at most a full batch.

    Args:
        rate: Messages per second.
        seconds: Duration of a call that does not wait.
    """
    arrived = rate * seconds
    return min(float(MESSAGES_PER_CALL), arrived + math.exp(-arrived))


def _task_size(demand: Demand, cpu_us: float) -> tuple[float, int]:
    for vcpu, memory_mib in TASK_SIZES:
        enough = vcpu * demand.utilisation * 1e6 / cpu_us >= demand.rate
        if vcpu == demand.task_vcpu:
            return vcpu, memory_mib
        if demand.task_vcpu is None and enough and vcpu <= _LARGEST_PROPOSED_VCPU:
            return vcpu, memory_mib
    return next(size for size in TASK_SIZES if size[0] == _LARGEST_PROPOSED_VCPU)


def _processes(vcpu: float) -> int:
    return max(1, int(vcpu))


def _memory_mb(processes: int, measured: Measured) -> float:
    parent = _PARENT_MB if processes > 1 else 0
    return processes * measured.rss_mb + parent + _default("AUP_HELD_MIB") * 1024**2 / 1e6


def _settings(rate: float, demand: Demand, processes: int) -> dict[str, int]:
    """Return the settings of a task that Little's law requires to be above their defaults.

    Each process has its own slots; the processes share the other limits.
    """
    sqs, table = demand.sqs_ms / 1000, demand.dynamodb_ms / 1000
    required = _MARGIN * rate
    calls = math.ceil(required * sqs / MESSAGES_PER_CALL)
    writes = math.ceil(required * table / _RECORDS_PER_WRITE)
    needed = {
        "AUP_SLOTS": min(math.ceil(required / processes * (2 * sqs + table)), _MAX_SLOTS),
        "AUP_POLL_CONCURRENCY": min(calls, MAX_CALLS),
        "AUP_SETTLE_CONCURRENCY": min(calls, MAX_CALLS),
        "AUP_WRITE_CONCURRENCY": min(writes, MAX_WRITES),
    }
    slots = max(needed["AUP_SLOTS"], _default("AUP_SLOTS"))
    # Each process derives the others from its slots.
    derived = {
        "AUP_SLOTS": _default("AUP_SLOTS"),
        "AUP_POLL_CONCURRENCY": processes * calls_for(slots),
        "AUP_SETTLE_CONCURRENCY": processes * calls_for(slots),
        "AUP_WRITE_CONCURRENCY": processes * writes_for(slots),
    }
    return {name: number for name, number in needed.items() if number > derived[name]}


def _latency_bound(demand: Demand, measured: Measured, processes: int) -> float:
    """Return the messages per second that the maximum settings allow a task at these latencies."""
    sqs, held = demand.sqs_ms / 1000, (2 * demand.sqs_ms + demand.dynamodb_ms) / 1000
    body = body_bytes(demand.record_bytes, measured)
    slots = min(processes * _MAX_SLOTS, _default("AUP_HELD_MIB") * 1024**2 / body)
    bounds = (
        (MAX_CALLS * MESSAGES_PER_CALL, sqs),
        (MAX_WRITES * _RECORDS_PER_WRITE, demand.dynamodb_ms / 1000),
        (slots, held),
    )
    return min((limit / seconds for limit, seconds in bounds if seconds), default=math.inf)


def _default(name: str) -> int:
    fields = {**AWSSettings.model_fields, **Settings.model_fields}
    return int(fields[name.removeprefix("AUP_").lower()].default)
