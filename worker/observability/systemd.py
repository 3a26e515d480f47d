"""What systemd is told through `$NOTIFY_SOCKET`: sd_notify(3), without its library."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Self

import structlog

from worker.observability.service_status import ServiceStatus

_log: Final = structlog.get_logger()
_TURN_SECONDS: Final = 1.0
_FIRST_TURN_SECONDS: Final = 0.1  # until it is ready: whoever starts after it waits
_EXTEND_EVERY_SECONDS: Final = 5.0
_EXTENSION_SECONDS: Final = 20.0


class Systemd:
    """Tell systemd that it is ready, how it goes, that it gets on, and that it stops.

    Nothing here waits: what systemd does not take at once is told at the next turn.

    Args:
        address: of the datagram socket; `@` at its head means an abstract one.
        view: what is told.
        watchdog_seconds: within which systemd wants to hear of progress, or None.
    """

    def __init__(self, address: str, view: ServiceStatus, watchdog_seconds: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._view = view
        self._watchdog_seconds = watchdog_seconds
        self._ready = self._stopping = self._failed = False
        self._pinged_at = self._extended_at = self._told_at = float("-inf")
        self._told_ready = False
        self._received_told = 0

    @classmethod
    def from_environment(
        cls, view: ServiceStatus, environment: Mapping[str, str] = os.environ
    ) -> Self | None:
        """Make one where systemd listens; None elsewhere."""
        address = environment.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        return cls(address, view, watchdog_seconds(environment))

    async def run(self) -> None:
        """Tell until cancelled, which is after the drain."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            while True:
                for state in self._states(time.monotonic()):
                    self._send(channel, state)
                await self._turn()

    async def _turn(self) -> None:
        seconds = _TURN_SECONDS if self._ready else _FIRST_TURN_SECONDS
        if self._watchdog_seconds is not None:
            seconds = min(seconds, self._watchdog_seconds / 4)
        if self._stopping:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._view.stopping.wait(), seconds)

    def _states(self, now: float) -> list[str]:
        """Give what is to be told in this turn."""
        lines = []
        if self._view.stopping.is_set() and not self._stopping:
            self._stopping, self._extended_at = True, float("-inf")
            lines.append("STOPPING=1")
        if not self._ready and not self._stopping and self._is_started():
            self._ready = True
            lines.append("READY=1")
        # While AWS does not answer the start goes on; it gives up by itself, and so does a drain.
        waits = self._stopping or not self._ready
        if waits and now - self._extended_at >= _EXTEND_EVERY_SECONDS:
            self._extended_at = now
            lines.append(f"EXTEND_TIMEOUT_USEC={_EXTENSION_SECONDS * 1e6:.0f}")
        if self._pings(now):
            self._pinged_at = now
            lines.append("WATCHDOG=1")
        ready = not self._view.why_not_ready()
        changed = ready is not self._told_ready or "READY=1" in lines or "STOPPING=1" in lines
        if changed or now - self._told_at >= self._view.settings.summary_seconds:
            lines.append(f"STATUS={self._status(now)}")
            self._told_at, self._told_ready = now, ready
            self._received_told = self._view.metrics.accounting.received
        return lines

    def _is_started(self) -> bool:
        """Say whether a poll was answered, or the one under way had its time.

        Queues and tables have answered by then. That polls fail later is no failed start: it goes
        on by itself when they work again.
        """
        view = self._view
        patience = view.settings.wait_seconds + view.settings.aws.call_timeout_seconds
        since = view.flow_seconds
        return view.poll_age_seconds is not None or (since is not None and since > patience)

    def _pings(self, now: float) -> bool:
        if self._watchdog_seconds is None or now - self._pinged_at < self._watchdog_seconds / 4:
            return False
        # A drain has a deadline of its own, and is not to be killed because something stood still.
        return self._stopping or not self._view.why_not_live()

    def _status(self, now: float) -> str:
        accounting = self._view.metrics.accounting
        reasons = self._view.why_not_ready()
        seconds = now - self._told_at
        rate = (accounting.received - self._received_told) / seconds if seconds else 0.0
        state = f"not ready: {'; '.join(reasons)}" if reasons else "ready"
        text = (
            f"{state}; {rate:.1f} messages/s, {accounting.held} held, "
            f"{accounting.received} received, {accounting.dead_by_reason.total()} dead"
        )
        return " ".join(text.split())  # a line is a statement

    def _send(self, channel: socket.socket, state: str) -> None:
        try:
            channel.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning("systemd does not take notifications", error=str(error))


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Read how often systemd wants to hear of progress: sd_watchdog_enabled(3).

    Returns:
        Seconds, or None when it does not, or means another process.
    """
    meant = environment.get("WATCHDOG_PID") or str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    if meant != str(os.getpid()) or not microseconds.isdecimal() or not int(microseconds):
        return None
    return int(microseconds) / 1e6
