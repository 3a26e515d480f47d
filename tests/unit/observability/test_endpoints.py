"""State what the health endpoints answer, and that nobody who asks delays the end."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from tests.unit.monitoring import FakePipeline, status_of
from worker.errors import SettingsError
from worker.observability.endpoints import serving
from worker.observability.service_status import ServiceStatus


async def _asked(port: int, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        return answer.status, await answer.json()


def _exposition() -> bytes:
    return b"aup_x 1\n"


async def test_a_start_is_live_and_not_ready_and_a_flow_is_what_its_health_says(
    unused_port: int,
) -> None:
    watched = FakePipeline()
    view: ServiceStatus = status_of(None, health_port=unused_port)
    async with serving(view, _exposition):
        assert (await _asked(unused_port, "/livez"))[0] == 200
        assert await _asked(unused_port, "/readyz") == (
            503,
            {"ready": False, "reasons": ["starting"]},
        )
        view.begin(watched, lambda: 1)
        assert await _asked(unused_port, "/readyz") == (200, {"ready": True, "reasons": []})
        watched.health.not_ready = ["draining"]
        assert await _asked(unused_port, "/readyz") == (
            503,
            {"ready": False, "reasons": ["draining"]},
        )
        assert (await _asked(unused_port, "/livez"))[0] == 200
        watched.health.not_live = ["no poll ended"]
        status, report = await _asked(unused_port, "/livez")
        assert (status, report["live"], report["reasons"]) == (503, False, ["no poll ended"])


async def test_liveness_tells_of_polls_the_loop_and_the_balance(unused_port: int) -> None:
    watched = FakePipeline()
    view = status_of(watched, health_port=unused_port, stall_seconds=10)
    watched.health.polled_at = view._clock()
    watched.metrics.accounting.open()
    watched.slots.filled = 1
    async with serving(view, _exposition):
        _, report = await _asked(unused_port, "/livez")
        assert 0 <= report.pop("last_poll_seconds_ago") < 5
        assert report == {
            "live": True,
            "reasons": [],
            "event_loop_lag_seconds": 0,
            "slots_filled": 1,
            "held": 1,
            "books_balanced": True,
        }
        view._guard._lags.append(5.5)
        status, report = await _asked(unused_port, "/livez")
        assert (status, report["reasons"]) == (503, ["the event loop stood still for 5.5 s"])


async def test_metrics_are_in_prometheus_own_format(unused_port: int) -> None:
    async with (
        serving(status_of(None, health_port=unused_port), _exposition),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{unused_port}/metrics") as answer,
    ):
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == b"aup_x 1\n"


async def test_a_port_in_use_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(SettingsError, match=f"AUP_HEALTH_PORT={port}: .*in use.*is free$"):
            async with serving(status_of(None, health_port=port), _exposition):
                pass


async def test_nobody_who_keeps_a_connection_delays_the_end(unused_port: int) -> None:
    view = status_of(None, health_port=unused_port)
    async with serving(view, lambda: b"x" * 50_000_000):
        _, idle = await asyncio.open_connection("127.0.0.1", unused_port)
        _, half = await asyncio.open_connection("127.0.0.1", unused_port)
        half.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        reader, deaf = await asyncio.open_connection("127.0.0.1", unused_port, limit=1)
        deaf.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readexactly(1) == b"H"  # the rest of the answer has no room
        began = time.monotonic()
    assert time.monotonic() - began < 2
    for writer in (idle, half, deaf):
        writer.close()


async def test_silent_connections_keep_no_probe_from_its_response(unused_port: int) -> None:
    watched = FakePipeline()
    async with serving(status_of(watched, health_port=unused_port), _exposition):
        silent = [await asyncio.open_connection("127.0.0.1", unused_port) for _ in range(300)]
        for _, writer in silent[::2]:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(5):
            assert (await _asked(unused_port, "/livez"))[0] == 200
            closed = 0
            for reader, _ in silent[: 300 - 64]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                closed += 1
        assert closed == 236, "the oldest, all but 64"
        for _, writer in silent:
            writer.close()


async def test_slow_connection_is_closed_in_time_whatever_it_sends_or_does_not_read(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.observability.endpoints._CONNECTION_SECONDS", 0.1)
    view = status_of(None, health_port=unused_port)
    async with serving(view, lambda: b"x" * 50_000_000):
        slow, dripping = await asyncio.open_connection("127.0.0.1", unused_port)
        deaf, asking = await asyncio.open_connection("127.0.0.1", unused_port, limit=1)
        asking.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        dripping.write(b"GET /livez HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while not slow.at_eof():
                    dripping.write(b"X: y\r\n")
                    await dripping.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await slow.read(1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await deaf.readexactly(50_000_000)
        for writer in (dripping, asking):
            writer.close()


async def test_connection_serves_one_request(unused_port: int) -> None:
    async with serving(status_of(None, health_port=unused_port), _exposition):
        for path in ("/livez", "/metrics", "/nothing"):
            reader, writer = await asyncio.open_connection("127.0.0.1", unused_port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            async with asyncio.timeout(5):
                response = await reader.read()
            assert b"\r\nConnection: close\r\n" in response
            writer.close()
