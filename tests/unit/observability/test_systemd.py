"""Notifications to systemd, on a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.monitoring import FakePipeline, begin, status_of
from worker.observability.systemd import Systemd, watchdog_seconds


class _Manager:
    """Notification socket of systemd."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.received: list[str] = []

    async def wait_for(self, prefix: str) -> str:
        """Return the next notification with a prefix; keep all in `received`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                self.received.append((await loop.sock_recv(self._socket, 4096)).decode())
                if self.received[-1].startswith(prefix):
                    return self.received[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Manager]:
    abstract = request.param == "abstract"
    listening = _Manager(f"@aup-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield listening
    listening.close()


async def test_notifications_from_start_to_stop(manager: _Manager) -> None:
    pipeline = FakePipeline()
    status = status_of(None, summary_seconds=0.2)
    running = asyncio.create_task(Systemd(manager.address, status, 0.2).run())
    # Notifications wait in the socket until they are read.
    assert await manager.wait_for("STATUS=") == (
        "STATUS=not ready: starting; 0.0 messages/s, 0 held, 0 received, 0 dead-lettered"
    )
    assert manager.received[0].startswith("EXTEND_TIMEOUT_USEC=")
    begin(status, pipeline)
    pipeline.health.not_ready = ["no response to a poll yet"]
    await manager.wait_for("WATCHDOG=1")
    assert "READY=1" not in manager.received
    pipeline.health.polled_at, pipeline.health.not_ready = asyncio.get_running_loop().time(), []
    await manager.wait_for("READY=1")
    assert (await manager.wait_for("STATUS=")).startswith("STATUS=ready; ")
    pipeline.health.not_ready = ["the table\nfails"]
    await manager.wait_for("STATUS=not ready: the table fails; ")
    manager.received.clear()
    status.stopping.set()
    await manager.wait_for("STOPPING=1")
    await manager.wait_for("EXTEND_TIMEOUT_USEC=20000000")
    assert "READY=1" not in manager.received
    running.cancel()
    await asyncio.wait([running])


def _names(systemd: Systemd, now: float) -> list[str]:
    return [each.partition("=")[0] for each in systemd._states(now)]


async def test_watchdog_needs_liveness_except_during_a_drain() -> None:
    pipeline = FakePipeline()
    status = status_of(pipeline)
    systemd = Systemd("@unused", status, 4.0)
    assert "WATCHDOG" in _names(systemd, 100.0)
    assert "WATCHDOG" not in _names(systemd, 100.5)
    pipeline.health.not_live = ["no poll ended"]
    assert "WATCHDOG" not in _names(systemd, 102.0)
    pipeline.health.not_live = []
    assert "WATCHDOG" in _names(systemd, 103.0)
    pipeline.health.not_live = ["no poll ended"]
    status.stopping.set()
    assert "WATCHDOG" in _names(systemd, 105.0), "a drain has its own deadline"


async def test_start_has_no_deadline_until_a_poll_gets_a_response() -> None:
    pipeline = FakePipeline()
    systemd = Systemd("@unused", status_of(pipeline), None)
    pipeline.health.not_ready = ["no poll has completed yet"]
    for now in (100.0, 105.0, 1000.0):
        names = _names(systemd, now)
        assert ("READY" in names, "EXTEND_TIMEOUT_USEC" in names) == (False, True)
    pipeline.health.polled_at = 1.0
    assert "READY" in _names(systemd, 1001.0), "although it is not ready to receive now"
    assert "EXTEND_TIMEOUT_USEC" not in _names(systemd, 1010.0), "it has started"


async def test_status_is_sent_with_every_change_and_every_summary() -> None:
    pipeline = FakePipeline()
    systemd = Systemd("@unused", status_of(pipeline, summary_seconds=30), None)
    assert "STATUS" in _names(systemd, 100.0)
    pipeline.metrics.accounting.received += 90
    assert "STATUS" not in _names(systemd, 129.0)
    (status,) = systemd._states(130.0)
    assert "3.0 messages/s" in status
    pipeline.health.not_ready = ["the table fails"]
    assert _names(systemd, 131.0) == ["STATUS"]
    assert _names(systemd, 132.0) == []


async def test_missing_socket_is_logged_once(tmp_path: Path) -> None:
    status = status_of(FakePipeline(), summary_seconds=0.01)
    with capture_logs() as logs:
        running = asyncio.create_task(Systemd(str(tmp_path / "missing"), status, 0.02).run())
        await asyncio.sleep(0.1)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
    assert [each["event"] for each in logs] == ["systemd notification failed"]


def test_watchdog_of_another_process_is_ignored() -> None:
    ours = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    assert watchdog_seconds(ours) == 30
    assert watchdog_seconds({"WATCHDOG_USEC": "500000"}) == 0.5
    for other in (
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        ours | {"WATCHDOG_PID": "1"},
    ):
        assert watchdog_seconds(other) is None
