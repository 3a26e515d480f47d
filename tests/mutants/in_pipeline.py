"""Faults from receive to decision: slots, leases, batching and the drain."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_BATCHER: Final = "worker/runtime/batcher.py"
_LEASE: Final = "worker/pipeline/lease.py"
_PROCESS: Final = "worker/pipeline/process.py"
_RECEIVE: Final = "worker/pipeline/receive.py"
_ASSEMBLY: Final = "worker/pipeline/assembly.py"
_PROCESS_TESTS: Final = ("tests/unit/pipeline/test_process.py",)
_ASSEMBLY_TESTS: Final = ("tests/unit/pipeline/test_assembly.py",)
_BATCHER_TESTS: Final = ("tests/unit/runtime/test_batcher.py",)
_LEASE_TESTS: Final = ("tests/unit/pipeline/test_lease.py",)
_RECEIVE_TESTS: Final = ("tests/unit/pipeline/test_receive.py",)
_DUE: Final = (
    "tests/simulation/test_single_faults.py"
    "::test_lease_stopped_when_its_extension_is_due_is_not_extended"
)

_GATHERING: Final = (
    Mutant(
        "the last flush is dropped",
        _BATCHER,
        "if self._waiting:\n            self._send_due()",
        "if len(self._waiting) >= self._max_entries:\n            self._send_due()",
        _BATCHER_TESTS,
    ),
    Mutant(
        "a batch contains the same key twice",
        _BATCHER,
        "if waiting.key in batch or (waiting.size > free_bytes and batch):",
        "if waiting.size > free_bytes and batch:",
        _BATCHER_TESTS,
    ),
    Mutant(
        "batches in flight are unlimited",
        _BATCHER,
        "while self._waiting and len(self._in_flight) < self.concurrency:",
        "while self._waiting:",
        _BATCHER_TESTS,
    ),
    Mutant(
        "fast responses lead to small batches",
        _BATCHER,
        "self._waiting[0].since if self._in_flight else self._last_sent_at",
        "self._waiting[0].since if self._in_flight else -1.0",
        _BATCHER_TESTS,
    ),
    Mutant(
        "the exception of an entry is returned as its result",
        _BATCHER,
        "if isinstance(result, Exception):",
        "if False:",
        _BATCHER_TESTS,
    ),
    Mutant(
        "an entry of a cancelled caller is sent",
        _BATCHER,
        "if waiting.future.done():  # the caller was cancelled",
        "if False:",
        _BATCHER_TESTS,
    ),
    Mutant(
        "skipped entries move to the end",
        _BATCHER,
        "self._waiting.extendleft(reversed(skipped))",
        "self._waiting.extend(skipped)",
        _BATCHER_TESTS,
    ),
)

_RECEIVING: Final = (
    Mutant(
        "an unused slot of a poll is not released",
        _RECEIVE,
        "                slot.release()",
        "                pass",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a stop cancels polls",
        _RECEIVE,
        "                return await self._receive(slots)",
        "                return bool(await unless_stopped(self._stopping, self._receive(slots)))",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "empty polls repeat without a pause",
        _RECEIVE,
        "                if is_empty and early > 0:",
        "                if is_empty and early > 60:",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a poll asks for more than its slots",
        _RECEIVE,
        "            len(slots),\n            wait_seconds",
        "            BATCH_MAX_ENTRIES,\n            wait_seconds",
        _RECEIVE_TESTS,
    ),
    Mutant(
        "a cancelled waiter keeps its turn",
        "worker/pipeline/slots.py",
        "                    slot.release()\n            self._serve_waiters()\n",
        "                    slot.release()\n",
        ("tests/unit/pipeline/test_slots.py",),
    ),
    Mutant(
        "a busy event loop does not lower the limit of slots",
        "worker/pipeline/adaptive_limit.py",
        "if busy_share >= _SATURATED:",
        "if busy_share >= 2:",
        ("tests/unit/pipeline/test_adaptive_limit.py",),
    ),
    Mutant(
        "an idle event loop does not raise the limit of slots",
        "worker/pipeline/adaptive_limit.py",
        "return min(maximum, max(limit + 1, int(limit * factor)))",
        "return limit",
        ("tests/unit/pipeline/test_adaptive_limit.py",),
    ),
    Mutant(
        "the circuit breaker never opens",
        "worker/pipeline/breaker.py",
        "self._closed.clear()",
        "pass",
        ("tests/unit/pipeline/test_breaker.py",),
    ),
    Mutant(
        "the circuit breaker never closes",
        "worker/pipeline/breaker.py",
        "self._closed.set()\n        return True",
        "return True",
        ("tests/unit/pipeline/test_breaker.py",),
    ),
    Mutant(
        "an open circuit breaker stops no poll",
        _RECEIVE,
        "self._access.stops_receiving or self._state.breaker.is_open",
        "self._access.stops_receiving",
        _RECEIVE_TESTS,
    ),
)

_LEASES: Final = (
    Mutant(
        "a lease is extended after settlement",
        _LEASE,
        "        self._leases.release(self)\n",
        "",
        _LEASE_TESTS,
    ),
    Mutant(
        "a lease stopped as its extension falls due is extended",
        _LEASE,
        "[lease for lease in batch if self._is_held(lease)]",
        "list(batch)",
        (_DUE,),
    ),
    Mutant(
        "settlement does not wait for an extension in flight",
        _LEASE,
        "await asyncio.wait([self.extending])",
        "pass",
        _LEASE_TESTS,
    ),
    Mutant(
        "a lease is never extended",
        _ASSEMBLY,
        "self.leases.run(), name=",
        "asyncio.Event().wait(), name=",
        (*_ASSEMBLY_TESTS, "-k", "leases"),
    ),
    Mutant(
        "a superseded message keeps its lease",
        _LEASE,
        "if older is not None:",
        "if False:",
        _LEASE_TESTS,
    ),
    Mutant(
        "a failed extension is ignored",
        _LEASE,
        "if error is None:",
        "if True:",
        _LEASE_TESTS,
    ),
    Mutant(
        "an extension is counted from its response",
        _LEASE,
        "lease.expires_at = requested_at + self.seconds",
        "lease.expires_at = asyncio.get_running_loop().time() + self.seconds",
        _LEASE_TESTS,
    ),
    Mutant(
        "leases are extended long before they are due",
        _LEASE,
        "min(1.0, self.seconds / 8)",
        "self.seconds / 8",
        _LEASE_TESTS,
    ),
)

_CARRYING: Final = (
    Mutant(
        "a slot is not released",
        _PROCESS,
        "finally:\n            slot.release()\n",
        "finally:\n            pass\n",
        (*_PROCESS_TESTS, "-k", "recorded_once"),
    ),
    Mutant(
        "a message is deleted before the write",
        _PROCESS,
        "            outcome = await self._decide(message, lease)\n",
        "            await self._settler._delete(lease, None)\n"
        "            outcome = await self._decide(message, lease)\n",
        (*_PROCESS_TESTS, *_ASSEMBLY_TESTS, "-k", "at_any_moment or faults_of_every_kind"),
    ),
    Mutant(
        "accounting is not updated",
        _PROCESS,
        "self._state.metrics.accounting.close(outcome)",
        "pass",
        (*_PROCESS_TESTS, "-k", "recorded_once"),
    ),
    Mutant(
        "queued messages are started after the stop",
        _PROCESS,
        "if self._state.stopping.is_set():\n                return Outcome",
        "if False:\n                return Outcome",
        (*_ASSEMBLY_TESTS, "-k", "last_poll"),
    ),
    Mutant(
        "the drain has no deadline",
        _ASSEMBLY,
        "await self._in_flight.wait(max(0.0, deadline - loop.time()))",
        "await self._in_flight.wait(1e9)",
        (*_ASSEMBLY_TESTS, "-k", "drain_timeout or unresponsive"),
    ),
    Mutant(
        "settlement after the drain has no deadline",
        _ASSEMBLY,
        "await self._in_flight.wait(0.8 * grace_seconds)",
        "await self._in_flight.wait(1e9)",
        (*_ASSEMBLY_TESTS, "-k", "drain_timeout or unresponsive"),
    ),
    Mutant(
        "a failed stage is not detected",
        _ASSEMBLY,
        'self.state.give_up(GaveUpError(f"stage',
        'repr(GaveUpError(f"stage',
        (*_ASSEMBLY_TESTS, "-k", "stage"),
    ),
    Mutant(
        "a task that fails unexpectedly is not noticed",
        _PROCESS,
        'self._state.give_up(GaveUpError(f"processing failed',
        'repr(GaveUpError(f"processing failed',
        (*_PROCESS_TESTS, "-k", "task_that_fails"),
    ),
    Mutant(
        "tasks go on after an error of the pipeline",
        _PROCESS,
        "        for task in tasks:\n            task.cancel()\n",
        "",
        (*_PROCESS_TESTS, "-k", "cancel_ends"),
    ),
    Mutant(
        "settled messages stay in the set that a late drain cancels",
        _PROCESS,
        "            lease.is_decided = True\n",
        "            pass\n",
        (*_ASSEMBLY_TESTS, "-k", "being_settled"),
    ),
)

MUTANTS: Final = (*_GATHERING, *_RECEIVING, *_LEASES, *_CARRYING)
