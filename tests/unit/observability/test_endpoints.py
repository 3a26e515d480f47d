"""Health and metrics endpoints, and limits on their connections."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from tests.unit.monitoring import FakePipeline, FakeWatchdog, begin, status_of
from worker.errors import SettingsError
from worker.observability.endpoints import serving


async def _get(port: int, path: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}") as response,
    ):
        return response.status, await response.json()


def _exposition() -> bytes:
    return b"aup_x 1\n"


async def test_start_up_endpoint_responds_with_200_after_the_first_poll(unused_port: int) -> None:
    pipeline = FakePipeline()
    status = status_of(None, health_port=unused_port)
    async with serving(status, _exposition):
        assert await _get(unused_port, "/startupz") == (
            503,
            {"started": False, "reasons": ["starting"]},
        )
        begin(status, pipeline)
        pipeline.health.polled_at, pipeline.health.not_ready = 1.0, ["the table is failing"]
        assert await _get(unused_port, "/startupz") == (200, {"started": True, "reasons": []})


async def test_service_is_live_but_not_ready_while_it_starts(
    unused_port: int,
) -> None:
    pipeline = FakePipeline()
    status = status_of(None, health_port=unused_port)
    async with serving(status, _exposition):
        assert (await _get(unused_port, "/livez"))[0] == 200
        assert await _get(unused_port, "/readyz") == (
            503,
            {"ready": False, "reasons": ["starting"]},
        )
        begin(status, pipeline)
        assert await _get(unused_port, "/readyz") == (200, {"ready": True, "reasons": []})
        pipeline.health.not_ready = ["draining"]
        assert await _get(unused_port, "/readyz") == (
            503,
            {"ready": False, "reasons": ["draining"]},
        )
        assert (await _get(unused_port, "/livez"))[0] == 200
        pipeline.health.not_live = ["no poll ended"]
        code, report = await _get(unused_port, "/livez")
        assert (code, report["live"], report["reasons"]) == (503, False, ["no poll ended"])


async def test_liveness_reports_polls_the_event_loop_and_the_accounting(unused_port: int) -> None:
    pipeline = FakePipeline()
    watchdog = FakeWatchdog()
    status = status_of(pipeline, watchdog, health_port=unused_port, stall_seconds=10)
    pipeline.health.polled_at = asyncio.get_running_loop().time()
    pipeline.metrics.accounting.open()
    pipeline.slots.filled = 1
    async with serving(status, _exposition):
        _, report = await _get(unused_port, "/livez")
        assert 0 <= report.pop("last_poll_seconds_ago") < 5
        assert report == {
            "live": True,
            "reasons": [],
            "event_loop_lag_seconds": 0,
            "slots_filled": 1,
            "held": 1,
            "books_balanced": True,
        }
        watchdog.lag_seconds = 5.5
        code, report = await _get(unused_port, "/livez")
        assert (code, report["reasons"]) == (503, ["event loop blocked for 5.5 s"])


async def test_metrics_have_the_content_type_of_prometheus(unused_port: int) -> None:
    async with (
        serving(status_of(None, health_port=unused_port), _exposition),
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{unused_port}/metrics") as response,
    ):
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await response.read() == b"aup_x 1\n"


async def test_port_in_use_is_an_error_with_a_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(
            SettingsError, match=f"AUP_HEALTH_PORT={port}: .*in use.*free address of this host$"
        ):
            async with serving(status_of(None, health_port=port), _exposition):
                pass


async def test_open_connections_do_not_delay_the_stop(unused_port: int) -> None:
    status = status_of(None, health_port=unused_port)
    async with serving(status, lambda: b"x" * 50_000_000):
        _, idle = await asyncio.open_connection("127.0.0.1", unused_port)
        _, partial = await asyncio.open_connection("127.0.0.1", unused_port)
        partial.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        reader, unread = await asyncio.open_connection("127.0.0.1", unused_port, limit=1)
        unread.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readexactly(1) == b"H"  # the rest does not fit into the buffer
        began = time.monotonic()
    assert time.monotonic() - began < 2
    for writer in (idle, partial, unread):
        writer.close()


async def test_silent_connections_do_not_block_probes(unused_port: int) -> None:
    pipeline = FakePipeline()
    async with serving(status_of(pipeline, health_port=unused_port), _exposition):
        silent = [await asyncio.open_connection("127.0.0.1", unused_port) for _ in range(300)]
        for _, writer in silent[::2]:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(5):
            assert (await _get(unused_port, "/livez"))[0] == 200
            closed = 0
            for reader, _ in silent[: 300 - 64]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
                closed += 1
        assert closed == 236, "all but the 64 newest"
        for _, writer in silent:
            writer.close()


async def test_slow_connection_is_closed_after_its_time_limit(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.observability.endpoints._CONNECTION_SECONDS", 0.1)
    status = status_of(None, health_port=unused_port)
    async with serving(status, lambda: b"x" * 50_000_000):
        slow, sending = await asyncio.open_connection("127.0.0.1", unused_port)
        unread, requesting = await asyncio.open_connection("127.0.0.1", unused_port, limit=1)
        requesting.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        sending.write(b"GET /livez HTTP/1.1\r\n")
        async with asyncio.timeout(10):
            with suppress(ConnectionError):
                while not slow.at_eof():
                    sending.write(b"X: y\r\n")
                    await sending.drain()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await slow.read(1)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await unread.readexactly(50_000_000)
        for writer in (sending, requesting):
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
