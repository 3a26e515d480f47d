"""State how much memory the service takes, whatever the size of its messages."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.process.workplace import Service, Workplace, body, wait_until

MIB = 1_048_576
RECORDED = 60
DEAD = 60


def _peak_bytes(service: Service) -> int:
    """Read the most memory that a running process ever held."""
    for line in Path(f"/proc/{service.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel tells no peak")


def _peak_of_small_ones(workplace: Workplace) -> int:
    workplace.send(*(body(number) for number in range(20)))
    with workplace.service() as service:
        service.wait_for("started")
        wait_until(lambda: len(workplace.recorded()) == 20, "20 recorded")
        peak = _peak_bytes(service)
        assert service.end(signal.SIGTERM)[0] == 0
    return peak


def test_messages_of_a_mebibyte_take_bounded_memory(workplace: Workplace) -> None:
    small = _peak_of_small_ones(workplace)
    # The one as large as can be recorded, the other as large as can be sent.
    bodies = [body(1000 + number, pad="x" * 300_000) for number in range(RECORDED)]
    room = MIB - len(body(2000, pad=""))
    bodies += [body(2000 + number, pad="x" * room) for number in range(DEAD)]
    for each in bodies:
        workplace.send(each)
    with workplace.service(AUP_HELD_MIB="8") as service:
        service.wait_for("started")
        wait_until(lambda: len(workplace.recorded()) == 20 + RECORDED, "large ones recorded")
        wait_until(lambda: not workplace.depth("AUP_QUEUE"), "the queue is empty")
        peak = _peak_bytes(service)
        code, figures = service.end(signal.SIGTERM)
    assert code == 0
    assert (figures["recorded"], figures["dead_by_reason"]) == (RECORDED, {"invalid": DEAD})
    # Text, its JSON, its parts and the answer of SQS: some copies of each at a time.
    assert peak - small < 10 * 8 * MIB, f"{peak / MIB:.0f} MiB, {small / MIB:.0f} without"
    assert all(len(json.dumps(letter)) < MIB // 100 for letter in workplace.dead())
