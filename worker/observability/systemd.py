"""Notifications to systemd through `$NOTIFY_SOCKET`: sd_notify(3) without its library."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import structlog

from worker.observability.service_status import ServiceStatus

_log: Final = structlog.get_logger()
_INTERVAL_SECONDS: Final = 1.0
_STARTING_INTERVAL_SECONDS: Final = 0.1  # units ordered after the service wait for READY
_EXTEND_EVERY_SECONDS: Final = 5.0
_EXTENSION_SECONDS: Final = 20.0


class Systemd:
    """Notifier of systemd: readiness, status, watchdog and stop.

    Nothing here blocks: a notification that cannot be sent is dropped.

    Args:
        address: address of the datagram socket; a leading `@` means an abstract socket.
        status: status of the service.
        watchdog_seconds: timeout of systemd's watchdog, or None.
    """

    def __init__(self, address: str, status: ServiceStatus, watchdog_seconds: float | None) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._service = status
        self._watchdog_seconds = watchdog_seconds
        self._ready = self._stopping = self._failed = False
        self._pinged_at = self._extended_at = self._reported_at = float("-inf")
        self._reported_ready = False
        self._reported_received = 0

    async def run(self) -> None:
        """Send notifications until cancelled, which is after the drain."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            while True:
                for state in self._states(time.monotonic()):
                    self._send(channel, state)
                await self._wait()

    async def _wait(self) -> None:
        seconds = _INTERVAL_SECONDS if self._ready else _STARTING_INTERVAL_SECONDS
        if self._watchdog_seconds is not None:
            seconds = min(seconds, self._watchdog_seconds / 4)
        if self._stopping:
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._service.stopping.wait(), seconds)

    def _states(self, now: float) -> list[str]:
        """Return the notifications that are due."""
        lines = []
        if self._service.stopping.is_set() and not self._stopping:
            self._stopping, self._extended_at = True, float("-inf")
            lines.append("STOPPING=1")
        if not (self._ready or self._stopping or self._service.why_not_started()):
            self._ready = True
            lines.append("READY=1")
        # Start and drain have deadlines of their own, so systemd need not end them.
        extends = self._stopping or not self._ready
        if extends and now - self._extended_at >= _EXTEND_EVERY_SECONDS:
            self._extended_at = now
            lines.append(f"EXTEND_TIMEOUT_USEC={_EXTENSION_SECONDS * 1e6:.0f}")
        if self._watchdog_due(now):
            self._pinged_at = now
            lines.append("WATCHDOG=1")
        ready = not self._service.why_not_ready()
        changed = ready is not self._reported_ready or "READY=1" in lines or "STOPPING=1" in lines
        if changed or now - self._reported_at >= self._service.settings.summary_seconds:
            lines.append(f"STATUS={self._status_line(now)}")
            self._reported_at, self._reported_ready = now, ready
            self._reported_received = self._service.metrics.accounting.received
        return lines

    def _watchdog_due(self, now: float) -> bool:
        if self._watchdog_seconds is None or now - self._pinged_at < self._watchdog_seconds / 4:
            return False
        # A drain has a deadline of its own, so the watchdog must not end it.
        return self._stopping or not self._service.why_not_live()

    def _status_line(self, now: float) -> str:
        accounting = self._service.metrics.accounting
        reasons = self._service.why_not_ready()
        seconds = now - self._reported_at
        rate = (accounting.received - self._reported_received) / seconds if seconds else 0.0
        state = f"not ready: {'; '.join(reasons)}" if reasons else "ready"
        text = (
            f"{state}; {rate:.1f} messages/s, {accounting.held} held, "
            f"{accounting.received} received, {accounting.dead_by_reason.total()} dead-lettered"
        )
        return " ".join(text.split())  # a line break would end the value

    def _send(self, channel: socket.socket, state: str) -> None:
        try:
            channel.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning("systemd notification failed", error=str(error))


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return the timeout of systemd's watchdog: sd_watchdog_enabled(3).

    Returns:
        Seconds, or None if the watchdog is off or is for another process.
    """
    watched_pid = environment.get("WATCHDOG_PID") or str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    if watched_pid != str(os.getpid()) or not microseconds.isdecimal() or not int(microseconds):
        return None
    return int(microseconds) / 1e6
