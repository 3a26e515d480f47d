"""Faults in memory limits, recovery, access and health."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ASSEMBLY: Final = "worker/pipeline/assembly.py"
_STATE: Final = "worker/pipeline/service_state.py"
_ACCESS: Final = "worker/pipeline/access_watch.py"
_RECEIVE: Final = "worker/pipeline/receive.py"
_RECORD: Final = "worker/pipeline/record.py"
_SETTLE: Final = "worker/pipeline/settle.py"
_SLOTS: Final = "worker/pipeline/slots.py"
_ACCESS_TESTS: Final = ("tests/unit/pipeline/test_access_watch.py",)
_CONNECTION_TESTS: Final = ("tests/pitfalls/test_connections.py",)
_ASSEMBLY_TESTS: Final = ("tests/unit/pipeline/test_assembly.py",)
_STATE_TESTS: Final = ("tests/unit/pipeline/test_service_state.py",)
_RECEIVE_TESTS: Final = ("tests/unit/pipeline/test_receive.py",)
_SETTLE_TESTS: Final = ("tests/unit/pipeline/test_settle.py",)
_SLOTS_TESTS: Final = ("tests/unit/pipeline/test_slots.py",)

_MEMORY: Final = (
    Mutant(
        "memory is not counted",
        _RECEIVE,
        "            slot.fill(message.memory_bytes)\n",
        "",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "memory is unlimited",
        _SLOTS,
        "return min(limit, free, fitting) if fitting >= least else 0",
        "return min(limit, free)",
        _SLOTS_TESTS,
    ),
    Mutant(
        "a poll of small messages keeps memory reserved for large ones",
        _SLOTS,
        "self.bytes_in_flight += size_bytes - reserved_bytes",
        "self.bytes_in_flight += max(0, size_bytes - reserved_bytes)",
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
        "memory released by a poll wakes no waiter",
        _SLOTS,
        "        if self._waiters and size_bytes < reserved_bytes and not self._is_serving:\n"
        "            self._serve_soon()\n",
        "",
        _SLOTS_TESTS,
    ),
    Mutant(
        "a poll waits although there is just enough memory",
        _SLOTS,
        "if fitting >= least else 0",
        "if fitting > least else 0",
        _SLOTS_TESTS,
    ),
)

_PROGRESS: Final = (
    Mutant(
        "missing progress does not end the run",
        _ASSEMBLY,
        'self.state.give_up(GaveUpError("; ".join(reasons)))',
        "pass",
        (*_ASSEMBLY_TESTS, "-k", "lack_of_progress"),
    ),
    Mutant(
        "an idle queue counts as missing progress",
        _STATE,
        "self.polled_at = self._progressed_at = self.clock()",
        "self.polled_at = self.clock()",
        _STATE_TESTS,
    ),
    Mutant(
        "an outage counts as missing progress",
        _RECORD,
        "            self._state.progressed()\n",
        "",
        (*_ASSEMBLY_TESTS, "-k", "idle_queue"),
    ),
    Mutant(
        "a leaked slot is not detected",
        _STATE,
        "if filled != accounting.held or not accounting.is_balanced:",
        "if not accounting.is_balanced:",
        _STATE_TESTS,
    ),
    Mutant(
        "readiness never returns",
        _ACCESS,
        "        self.error = None\n",
        "",
        _STATE_TESTS,
    ),
    Mutant(
        "a change of readiness is not logged",
        _ASSEMBLY,
        '_log.warning("not ready", why=reasons)',
        "pass",
        (*_ASSEMBLY_TESTS, "-k", "not_ready"),
    ),
    Mutant(
        "every poller calls AWS during an outage",
        _RECEIVE,
        "error)\n        self._wanted = 1\n",
        "error)\n",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a message of an unknown form ends the poller",
        "worker/aws/sqs.py",
        "except MALFORMED as error:",
        "except ZeroDivisionError as error:",
        ("tests/unit/aws/test_sqs_responses.py",),
    ),
)

_CONNECTIONS: Final = (
    Mutant(
        "the connection pool is smaller than the number of calls",
        "worker/aws/sqs.py",
        "pool=4 * settings.settle_concurrency",
        "pool=4 * settings.settle_concurrency - 1",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "polls share the common connection pool",
        "worker/aws/sqs.py",
        "                poll_caller=poll_caller,\n",
        "",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "lookups are unlimited",
        "worker/repository/acceptances.py",
        "        async with self._lookups:\n            existing",
        "        if True:\n            existing",
        (*_CONNECTION_TESTS, "-k", "every_bound"),
    ),
    Mutant(
        "policy reads are unlimited",
        "worker/repository/policies.py",
        "        async with self._reads:\n",
        "        if True:\n",
        (*_CONNECTION_TESTS, "-k", "many_policies"),
    ),
)

_ELSEWHERE: Final = (
    Mutant(
        "a redelivery is dropped while the first message is held",
        _ASSEMBLY,
        "        metrics.accounting.open()\n        in_flight",
        "        if message.message_id in leases._held:\n            slot.release()\n"
        "            return\n        metrics.accounting.open()\n        in_flight",
        ("tests/pitfalls/test_leases.py", "-k", "old_handle"),
    ),
    Mutant(
        "leases end before the drain",
        _ASSEMBLY,
        "                await self._drain(receiver)\n",
        "                leases.cancel()\n                await self._drain(receiver)\n",
        ("tests/pitfalls/test_leases.py", "-k", "through_the_drain"),
    ),
    Mutant(
        "a poll waits for its batch to finish",
        _RECEIVE,
        "            self._accept(message, slot)\n",
        "            self._accept(message, slot)\n        while self._state.slots.filled:\n"
        "            await asyncio.sleep(0.05)\n",
        ("tests/pitfalls/test_progress.py", "-k", "one_slow"),
    ),
)

_ACCESS_DENIED: Final = (
    Mutant(
        "a wait for a version is decided before the dead-letter queue is back",
        _SETTLE,
        "may_hold=may_hold",
        "may_hold=True",
        _SETTLE_TESTS,
    ),
    Mutant(
        "deletes that are not observed",
        _SETTLE,
        "access.observed(Operation.DELETE, source.delete)",
        "source.delete",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a denied extension that is not observed",
        _ASSEMBLY,
        "state.access.observed(Operation.VISIBILITY, source.change_visibility)",
        "source.change_visibility",
        (*_ASSEMBLY_TESTS, "-k", "extension"),
    ),
    Mutant(
        "policy reads that are not observed",
        "worker/repository/tables.py",
        "            self.observe(operation, [error])\n",
        "",
        ("tests/unit/repository/test_tables.py", "-k", "observed"),
    ),
    Mutant(
        "success of one operation clears the problem of another",
        _ACCESS,
        "        status = self._statuses.get(operation)\n",
        "        for each in self._statuses.values():\n            each.clear()\n"
        "        status = self._statuses.get(operation)\n",
        _ACCESS_TESTS,
    ),
    Mutant(
        "denied entries of a batch are hidden by others",
        _ACCESS,
        "        if denials:\n",
        "        if denials and len(errors) == len(results):\n",
        _ACCESS_TESTS,
    ),
    Mutant(
        "access is not probed once no call tries it",
        _ACCESS,
        "and status.observed_at <= stale",
        "and False",
        _ACCESS_TESTS,
    ),
    Mutant(
        "a misleading probe is trusted for ever",
        _ACCESS,
        "status.misleading_passes += 1",
        "pass",
        _ACCESS_TESTS,
    ),
    Mutant(
        "receiving goes on while messages cannot be settled",
        _ACCESS,
        "status.error is not None and operation in self._probes\n",
        "status.error is None and operation in self._probes\n",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a poll that waited for slots begins although access is denied",
        _RECEIVE,
        "if slots and not paused and not self._stopping.is_set():",
        "if slots and not self._stopping.is_set():",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a message whose delete is denied is released at once",
        _SETTLE,
        "if await self._access_may_return(lease):\n                        continue",
        "if False:\n                        continue",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message whose delete is denied is held without its lease",
        _SETTLE,
        "                    await self._renew(lease)\n",
        "",
        _SETTLE_TESTS,
    ),
    Mutant(
        "a message dead-lettered again",
        _SETTLE,
        "if message_id in self._dead_lettered:",
        "if False:",
        _SETTLE_TESTS,
    ),
    Mutant(
        "remembered dead letters are unlimited",
        _SETTLE,
        "            self._dead_lettered.popitem(last=False)\n",
        "            pass\n",
        _SETTLE_TESTS,
    ),
    Mutant(
        "missing permissions are not detected at startup",
        "worker/operations/doctor/preflight.py",
        "    if denied:\n",
        "    if False:\n",
        ("tests/unit/operations/doctor/test_preflight.py",),
    ),
    Mutant(
        "an operation that the server lacks is retried for ever",
        "worker/aws/error_codes.py",
        "    **dict.fromkeys(_UNSUPPORTED, errors.AWSUnsupportedError),\n",
        "",
        ("tests/unit/aws/test_error_codes.py",),
    ),
)

MUTANTS: Final = _ACCESS_DENIED + _MEMORY + _PROGRESS + _CONNECTIONS + _ELSEWHERE
