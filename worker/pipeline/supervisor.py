"""Supervision of the pipeline: run, watch the stages, drain, give up."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from worker.errors import GaveUpError
from worker.pipeline.in_flight import InFlight
from worker.pipeline.lease import Leases
from worker.pipeline.receive import Receiver
from worker.pipeline.service_state import ServiceState
from worker.pipeline.settle import Settler
from worker.runtime.redaction import error_text
from worker.settings import Settings

_log: Final = structlog.get_logger()
_CHECK_SECONDS: Final = 5.0


class Supervisor:
    """Life of the pipeline from its first poll to the end of its drain.

    Args:
        receiver: Polls the queue.
        in_flight: Tasks of the messages in flight.
        leases: Extends the leases of those messages.
        settler: Closed at the end.
        state: State of the service.
        settings: Time limits of the drain.
    """

    def __init__(
        self,
        receiver: Receiver,
        in_flight: InFlight,
        leases: Leases,
        settler: Settler,
        state: ServiceState,
        settings: Settings,
    ) -> None:
        self._receiver = receiver
        self._in_flight = in_flight
        self._leases = leases
        self._settler = settler
        self._state = state
        self._settings = settings

    async def run(self) -> None:
        """Process messages until `stopping` is set, then drain.

        The drain waits for the polls in flight, completes what has been started and returns the
        other messages to the queue; after `drain_timeout_seconds` it returns what has no outcome.
        On cancellation it ends at once: messages in flight become visible again at their
        visibility timeout.

        Raises:
            GaveUpError: Access was denied or the queue or table was missing for too long, there
                was no progress, or a stage failed.
        """
        loop = asyncio.get_running_loop()
        leases = loop.create_task(self._leases.run(), name="leases")
        health = loop.create_task(self._watch_health(), name="health")
        access = loop.create_task(self._state.access.run(), name="access")
        try:
            async with self._in_flight:
                receiver = loop.create_task(self._receiver.run(), name="receiver")
                try:
                    await self._until_stopping(receiver, leases, health, access)
                    await self._drain(receiver)
                finally:
                    await _cancel(receiver)
        finally:
            await _cancel(access)
            await _cancel(health)
            await _cancel(leases)
            await self._settler.aclose()
        if self._state.failure is not None:
            raise self._state.failure

    async def _until_stopping(self, *stages: asyncio.Task[None]) -> None:
        """Wait until the service is to stop, or a stage ends, which it must not do."""
        stop = asyncio.ensure_future(self._state.stopping.wait())
        try:
            await asyncio.wait({stop, *stages}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        for stage in stages:
            if not stage.done() or stage.cancelled():
                continue
            error = stage.exception()
            if error or not self._state.stopping.is_set():
                why = "ended early" if error is None else f"failed: {error_text(error)}"
                self._state.give_up(GaveUpError(f"stage {stage.get_name()} {why}"))
                _log.error("stage failed", stage=stage.get_name(), exc_info=error)

    async def _watch_health(self) -> None:
        """Log changes of readiness, and give up when the service is not live."""
        health, stopping = self._state.health, self._state.stopping
        was_ready = True  # until shown otherwise: the first poll has started
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            if reasons := health.why_not_live():
                self._state.give_up(GaveUpError("; ".join(reasons)))
                return
            reasons = health.why_not_ready()
            if bool(reasons) is was_ready and not stopping.is_set():
                was_ready = not reasons
                if was_ready:
                    _log.info("ready again")
                else:
                    _log.warning("not ready", why=reasons)

    async def _drain(self, receiver: asyncio.Task[None]) -> None:
        loop = asyncio.get_running_loop()
        drain_seconds = self._settings.drain_timeout_seconds
        deadline = loop.time() + drain_seconds
        _log.info(
            "drain started",
            held=len(self._in_flight),
            wait_seconds=self._settings.wait_seconds,
            drain_timeout_seconds=drain_seconds,
        )
        if not receiver.done():
            await asyncio.wait({receiver}, timeout=drain_seconds)
        await self._in_flight.wait(max(0.0, deadline - loop.time()))
        self._in_flight.cancel_undecided()
        # The rest is being settled; the process manager allows this much time for it.
        grace_seconds = self._settings.stop_timeout_seconds - drain_seconds
        for task in await self._in_flight.wait(0.8 * grace_seconds):
            task.cancel()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
