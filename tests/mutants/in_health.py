"""Faults in the bounds on memory, in recovery, and in what is told of the whole."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_FLOW: Final = "worker/pipeline/flow.py"
_HEALTH: Final = "worker/pipeline/health.py"
_PATIENCE: Final = "worker/pipeline/patience.py"
_RECEIVE: Final = "worker/pipeline/receive.py"
_RECORD: Final = "worker/pipeline/record.py"
_REPOSITORY: Final = "worker/repository/aup.py"
_SLOTS: Final = "worker/pipeline/slots.py"
_CONNECTION_TESTS: Final = ("tests/pitfalls/test_connections.py",)
_FLOW_TESTS: Final = ("tests/unit/test_flow.py",)
_HEALTH_TESTS: Final = ("tests/unit/test_health.py",)
_RECEIVE_TESTS: Final = ("tests/unit/test_receive.py",)
_SLOTS_TESTS: Final = ("tests/unit/test_slots.py",)

_MEMORY: Final = (
    Mutant(
        "memory that nobody counts",
        _RECEIVE,
        "            slot.fill(delivery.memory_bytes)\n",
        "",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "memory without a bound",
        _SLOTS,
        "return min(most, self.free, fitting) if fitting >= least else 0",
        "return min(most, self.free)",
        _SLOTS_TESTS,
    ),
    Mutant(
        "a poll that brings small messages keeps the room of large ones",
        _SLOTS,
        "self.bytes_in_flight += size_bytes - allowed_bytes",
        "self.bytes_in_flight += max(0, size_bytes - allowed_bytes)",
        _SLOTS_TESTS,
    ),
    Mutant(
        "large messages are never expected again",
        _SLOTS,
        "max(size_bytes, self._expected_bytes * _EXPECTED_DECAY)",
        "self._expected_bytes * _EXPECTED_DECAY",
        _SLOTS_TESTS,
    ),
    Mutant(
        "room that a poll left over wakes nobody",
        _SLOTS,
        "        if size_bytes < allowed_bytes:\n            self._wake_next()\n",
        "",
        _SLOTS_TESTS,
    ),
    Mutant(
        "a poll that waits where just enough has room",
        _SLOTS,
        "if fitting >= least else 0",
        "if fitting > least else 0",
        _SLOTS_TESTS,
    ),
)

_PROGRESS: Final = (
    Mutant(
        "a standstill that nobody ends",
        _FLOW,
        'self.give_up(GaveUpError("; ".join(reasons)))',
        "pass",
        _FLOW_TESTS,
    ),
    Mutant(
        "an idle queue taken for a standstill",
        _HEALTH,
        "self.polled_at = self._progressed_at = self._clock()",
        "self.polled_at = self._clock()",
        _HEALTH_TESTS,
    ),
    Mutant(
        "an outage taken for a standstill",
        _RECORD,
        "            self._health.progressed()\n",
        "",
        _FLOW_TESTS,
    ),
    Mutant(
        "a leaked slot that nobody notices",
        _HEALTH,
        "if self._slots.filled != self._books.held or not self._books.balance:",
        "if not self._books.balance:",
        _HEALTH_TESTS,
    ),
    Mutant(
        "readiness that stays away",
        _PATIENCE,
        '        self._denied_last = False\n        self.trouble = ""',
        "        self._denied_last = False",
        _HEALTH_TESTS,
    ),
    Mutant(
        "readiness that nobody is told of",
        _FLOW,
        '_log.warning("not ready", why=reasons)',
        "pass",
        _FLOW_TESTS,
    ),
    Mutant(
        "an outage met by every poller",
        _RECEIVE,
        "                self._wanted = 1\n",
        "",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a message in no known form ends the poller",
        "worker/queue.py",
        "except _UNREADABLE as error:",
        "except ZeroDivisionError as error:",
        ("tests/unit/test_queue.py",),
    ),
)

_CONNECTIONS: Final = (
    Mutant(
        "a pool smaller than the calls under way",
        "worker/queue.py",
        "pool=4 * settings.settle_concurrency",
        "pool=4 * settings.settle_concurrency - 1",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "polls on the common pool",
        "worker/queue.py",
        "open_caller(poll_client, ",
        "open_caller(client, ",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "lookups without a bound",
        _REPOSITORY,
        "        async with self._lookups:\n            existing",
        "        if True:\n            existing",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "reads of policies without a bound",
        _REPOSITORY,
        "        async with self._policy_reads:\n",
        "        if True:\n",
        (*_CONNECTION_TESTS, "-k", "many_policies"),
    ),
)

_ELSEWHERE: Final = (
    Mutant(
        "a redelivery dropped while the first is held",
        _FLOW,
        "        self.metrics.books.open()\n        lease",
        "        if delivery.message_id in self.leases._by_message:\n            slot.release()\n"
        "            return\n        self.metrics.books.open()\n        lease",
        ("tests/pitfalls/test_leases.py", "-k", "old_handle"),
    ),
    Mutant(
        "leases that end before the drain",
        _FLOW,
        "                    await self._drain(receiver)\n",
        "                    leases.cancel()\n                    await self._drain(receiver)\n",
        ("tests/pitfalls/test_leases.py", "-k", "through_the_drain"),
    ),
    Mutant(
        "a poll that waits for its batch",
        _RECEIVE,
        "            self._accept(delivery, slot)\n",
        "            self._accept(delivery, slot)\n        while self._slots.filled:\n"
        "            await asyncio.sleep(0.05)\n",
        ("tests/pitfalls/test_progress.py", "-k", "one_slow"),
    ),
)

MUTANTS: Final = _MEMORY + _PROGRESS + _CONNECTIONS + _ELSEWHERE
