"""Detection of access to AWS that stays denied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Final, TypeVar

import structlog

from worker.aws.access import Operation, Probe
from worker.errors import AWSAccessError, AWSError, AWSRejectedError, GaveUpError, LeaseLostError

_log: Final = structlog.get_logger()
EntryT = TypeVar("EntryT")
BatchCall = Callable[[Sequence[EntryT]], Awaitable[Sequence[AWSError | None]]]

_LOG_INTERVAL_SECONDS: Final = 60.0
# Denied calls are repeated sooner than this: a later denial belongs to a new incident.
_BREAK_SECONDS: Final = 60.0
PROBE_SECONDS: Final = 10.0
# A probe that passes although calls are denied (by a KMS key, for example) proves nothing. One
# such pass may be a coincidence: the denied call was sent before access was restored.
_MISLEADING_PASSES: Final = 2


@dataclass(slots=True)
class _Status:
    """Access to one operation that has failed before."""

    error: AWSAccessError | None = None
    denied_seconds: float = 0.0
    denied_at: float = float("-inf")
    denied_last: bool = False
    observed_at: float = float("-inf")
    logged_at: float = float("-inf")
    probe_passed_at: float = float("-inf")
    misleading_passes: int = 0

    def clear(self) -> None:
        self.error = None
        self.denied_seconds = 0.0
        self.denied_last = False


class AccessWatch:
    """Observer of all calls that ends the run when access stays denied for too long.

    Operations are independent: the success of one says nothing about another. Only the time
    between two consecutive denials of an operation counts, without another kind of failure between
    them. While an operation with a probe is denied, receiving is paused, so that receive counts
    are not used up; the probe is repeated while the worker itself makes no such call.

    Args:
        seconds: How long an operation may be denied.
        give_up: Called when it is denied for longer.
        probes: At most one for each operation. The worker's own calls probe the others.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        seconds: float,
        give_up: Callable[[GaveUpError], None],
        probes: Iterable[Probe],
        clock: Callable[[], float],
    ) -> None:
        self._seconds = seconds
        self._give_up = give_up
        self._probes = {probe.operation: probe for probe in probes}
        self._clock = clock
        self._statuses: dict[Operation, _Status] = {}
        self._changed = asyncio.Event()

    @property
    def problem(self) -> str:
        """Last errors of the operations that are denied now; empty if nothing is denied."""
        return "; ".join(str(each.error) for each in self._statuses.values() if each.error)

    @property
    def stops_receiving(self) -> bool:
        """Whether receiving is paused because messages could not be settled."""
        return any(
            status.error is not None and operation in self._probes
            for operation, status in self._statuses.items()
        )

    def observed(self, operation: Operation, call: BatchCall[EntryT]) -> BatchCall[EntryT]:
        """Return an equivalent batch call whose results are observed."""

        @wraps(call)
        async def observed(entries: Sequence[EntryT]) -> Sequence[AWSError | None]:
            try:
                results = await call(entries)
            except AWSError as error:
                self.failed(operation, error)
                raise
            self.observe(operation, results)
            return results

        return observed

    def observe(self, operation: Operation, results: Sequence[object]) -> None:
        """Note the results of one call: an AWSError for each entry that failed."""
        errors = [result for result in results if isinstance(result, AWSError)]
        denials = [error for error in errors if isinstance(error, AWSAccessError)]
        if denials:
            self.failed(operation, denials[0])
        elif len(errors) < len(results):
            self.succeeded(operation)
        elif errors:
            self.failed(operation, errors[0])

    def succeeded(self, operation: Operation) -> None:
        """Note that the operation is permitted."""
        status = self._statuses.get(operation)
        if status is not None:
            status.misleading_passes = 0
            self._permitted(operation, status)

    def failed(self, operation: Operation, error: AWSError) -> None:
        """Note a failed call; an error about the request itself means that it is permitted."""
        if isinstance(error, AWSRejectedError | LeaseLostError):
            self.succeeded(operation)
            return
        status = self._statuses.setdefault(operation, _Status())
        now = self._clock()
        if status.probe_passed_at > now - _BREAK_SECONDS and isinstance(error, AWSAccessError):
            status.misleading_passes += 1
            status.probe_passed_at = float("-inf")
        self._failed(operation, status, error)

    def _failed(self, operation: Operation, status: _Status, error: AWSError) -> None:
        now = status.observed_at = self._clock()
        if isinstance(error, AWSAccessError):
            self._denied(status, error, now)
        else:
            # Access is unknown now, so the time between two denials does not count.
            status.denied_last = False
        if now - status.logged_at >= _LOG_INTERVAL_SECONDS:
            status.logged_at = now
            _log.warning(
                "AWS call failed",
                operation=operation.value,
                error=str(error),
                kind=type(error).__name__,
            )

    def _denied(self, status: _Status, error: AWSAccessError, now: float) -> None:
        status.error = error
        passed = now - status.denied_at
        if passed > _BREAK_SECONDS:
            status.denied_seconds = 0.0
        elif status.denied_last:
            status.denied_seconds += passed
        status.denied_at = now
        status.denied_last = True
        if status.denied_seconds >= self._seconds:
            self._give_up(GaveUpError(f"denied for {self._seconds:g} s or longer: {error}"))

    def _permitted(self, operation: Operation, status: _Status) -> None:
        status.observed_at = self._clock()
        was_denied = status.error is not None
        status.clear()
        if was_denied:
            self._changed.set()
            _log.info("access restored", operation=operation.value)

    async def wait_for_change(self, timeout_seconds: float) -> None:
        """Wait until access to any operation is restored, or until the timeout."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._changed.wait()

    async def run(self) -> None:
        """Probe the denied operations until cancelled."""
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            stale = self._clock() - PROBE_SECONDS
            await asyncio.gather(
                *(
                    self._probe(self._probes[operation], status, status.error)
                    for operation, status in self._statuses.items()
                    if status.error is not None
                    and status.observed_at <= stale
                    and operation in self._probes
                )
            )

    async def _probe(self, probe: Probe, status: _Status, last: AWSAccessError) -> None:
        if status.misleading_passes >= _MISLEADING_PASSES:
            # Only the worker's own calls can show that access is restored.
            self._failed(probe.operation, status, last)
            return
        error = await probe.error()
        if error is None or isinstance(error, AWSRejectedError | LeaseLostError):
            status.probe_passed_at = self._clock()
            self._permitted(probe.operation, status)
        else:
            self._failed(probe.operation, status, error)
