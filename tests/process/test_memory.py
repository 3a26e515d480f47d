"""Memory of the service for messages of any size."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.process.environment import Environment, Service, body, wait_until

MIB = 1_048_576
RECORDED = 60
DEAD_LETTERED = 60


def _peak_bytes(service: Service) -> int:
    """Return the peak memory of a running process in bytes."""
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel reports no peak memory")


def _peak_with_small_messages(environment: Environment) -> int:
    environment.send(*(body(number) for number in range(20)))
    with environment.service() as service:
        service.wait_for("started")
        wait_until(lambda: len(environment.recorded()) == 20, "20 recorded")
        peak = _peak_bytes(service)
        assert service.end(signal.SIGTERM)[0] == 0
    return peak


def test_messages_of_a_mebibyte_use_bounded_memory(environment: Environment) -> None:
    small = _peak_with_small_messages(environment)
    # The largest that can be recorded, and the largest that can be sent.
    bodies = [body(1000 + number, pad="x" * 300_000) for number in range(RECORDED)]
    padding = MIB - len(body(2000, pad=""))
    bodies += [body(2000 + number, pad="x" * padding) for number in range(DEAD_LETTERED)]
    for each in bodies:
        environment.send(each)
    with environment.service(AUP_HELD_MIB="8") as service:
        service.wait_for("started")
        wait_until(lambda: len(environment.recorded()) == 20 + RECORDED, "large ones recorded")
        wait_until(lambda: not environment.depth("AUP_QUEUE"), "the queue is empty")
        peak = _peak_bytes(service)
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert (figures["recorded"], figures["dead_by_reason"]) == (
        RECORDED,
        {"invalid": DEAD_LETTERED},
    )
    # Several copies exist at a time: the response of SQS, the text, its JSON and its parts.
    assert peak - small < 10 * 8 * MIB, f"{peak / MIB:.0f} MiB, {small / MIB:.0f} without"
    assert all(
        len(json.dumps(dead_letter)) < MIB // 100 for dead_letter in environment.dead_letters()
    )
