"""State what systemd is told, on a real datagram socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.monitoring import FakePipeline, status_of
from worker.observability.systemd import Systemd, watchdog_seconds


class _Manager:
    """Listen as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))
        self._socket.setblocking(False)
        self.told: list[str] = []

    async def hears(self, beginning: str) -> str:
        """Wait until something is told that begins so; what came before it is kept in `told`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                self.told.append((await loop.sock_recv(self._socket, 4096)).decode())
                if self.told[-1].startswith(beginning):
                    return self.told[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_Manager]:
    abstract = request.param == "abstract"
    listening = _Manager(f"@aup-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield listening
    listening.close()


async def test_from_start_to_stop_it_is_told_in_order(manager: _Manager) -> None:
    watched = FakePipeline()
    view = status_of(None, summary_seconds=0.2)
    telling = asyncio.create_task(Systemd(manager.address, view, 0.2).run())
    # What is sent before it listens for it waits in its socket.
    assert await manager.hears("STATUS=") == (
        "STATUS=not ready: starting; 0.0 messages/s, 0 held, 0 received, 0 dead"
    )
    assert manager.told[0].startswith("EXTEND_TIMEOUT_USEC=")
    view.begin(watched, lambda: 1)
    watched.health.not_ready = ["no poll was answered yet"]
    await manager.hears("WATCHDOG=1")
    assert "READY=1" not in manager.told
    watched.health.polled_at, watched.health.not_ready = view._clock(), []
    await manager.hears("READY=1")
    assert (await manager.hears("STATUS=")).startswith("STATUS=ready; ")
    watched.health.not_ready = ["the table\nfails"]
    await manager.hears("STATUS=not ready: the table fails; ")
    manager.told.clear()
    view.stopping.set()
    await manager.hears("STOPPING=1")
    await manager.hears("EXTEND_TIMEOUT_USEC=20000000")
    assert "READY=1" not in manager.told
    telling.cancel()
    await asyncio.wait([telling])


def _told(systemd: Systemd, now: float) -> list[str]:
    return [each.partition("=")[0] for each in systemd._states(now)]


async def test_the_watchdog_is_fed_by_progress_alone_until_it_drains() -> None:
    watched = FakePipeline()
    view = status_of(watched)
    systemd = Systemd("@unheard", view, 4.0)
    assert "WATCHDOG" in _told(systemd, 100.0)
    assert "WATCHDOG" not in _told(systemd, 100.5)
    watched.health.not_live = ["no poll ended"]
    assert "WATCHDOG" not in _told(systemd, 102.0)
    watched.health.not_live = []
    assert "WATCHDOG" in _told(systemd, 103.0)
    watched.health.not_live = ["no poll ended"]
    view.stopping.set()
    assert "WATCHDOG" in _told(systemd, 105.0), "a drain has its own deadline"


async def test_it_is_ready_without_a_poll_once_one_had_its_time() -> None:
    watched = FakePipeline()
    view = status_of(watched, wait_seconds=1)
    systemd = Systemd("@unheard", view, None)
    watched.health.not_ready = ["no poll was answered yet"]
    assert "READY" not in _told(systemd, 100.0)
    view._flow_since = view._clock() - 1 - view.settings.aws.call_timeout_seconds - 0.1
    assert "READY" in _told(systemd, 101.0)
    assert "EXTEND_TIMEOUT_USEC" not in _told(systemd, 110.0), "it has started"


async def test_the_status_is_told_on_every_change_and_with_every_summary() -> None:
    watched = FakePipeline()
    systemd = Systemd("@unheard", status_of(watched, summary_seconds=30), None)
    assert "STATUS" in _told(systemd, 100.0)
    watched.metrics.accounting.received += 90
    assert "STATUS" not in _told(systemd, 129.0)
    (status,) = systemd._states(130.0)
    assert "3.0 messages/s" in status
    watched.health.not_ready = ["the table fails"]
    assert _told(systemd, 131.0) == ["STATUS"]
    assert _told(systemd, 132.0) == []


async def test_a_socket_that_nobody_reads_ends_nothing_and_is_told_of_once(tmp_path: Path) -> None:
    view = status_of(FakePipeline(), summary_seconds=0.01)
    with capture_logs() as logs:
        telling = asyncio.create_task(Systemd(str(tmp_path / "nobody"), view, 0.02).run())
        await asyncio.sleep(0.1)
        assert not telling.done()
        telling.cancel()
        await asyncio.wait([telling])
    assert [each["event"] for each in logs] == ["systemd does not take notifications"]


def test_the_watchdog_is_ours_only_if_it_names_us() -> None:
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


async def test_without_a_socket_there_is_nothing_to_tell() -> None:
    view = status_of(None)
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}):
        assert Systemd.from_environment(view, environment) is None
