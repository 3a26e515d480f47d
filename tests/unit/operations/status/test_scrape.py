"""Samples are parsed from the metrics of workers; any other response is a problem."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.unit.monitoring import FakePipeline, begin, status_of
from worker.domain.outcome import Outcome, OutcomeKind
from worker.errors import UsageError
from worker.observability.endpoints import serving
from worker.observability.prometheus import exposition
from worker.operations.status import scrape as scraping
from worker.operations.status.scrape import (
    Sample,
    format_address,
    parse_address,
    scrape,
    scrape_all,
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("worker-1.internal:1", "worker-1.internal:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("0.0.0.0:80", "127.0.0.1:80"),
    ],
)
def test_worker_address_is_a_host_and_a_port(text: str, read: str) -> None:
    assert parse_address(text) == read


@pytest.mark.parametrize(
    "text",
    ["", "8080", ":8080", "host", "host:", "host:0", "host:65536", "host:x", "host:٣", "::1:80",
     "[host]:80", "[::1:80", "http://host:80", "user@host:80", "host:80/x", "a b:80",
     "host:" + "9" * 5000],
)  # fmt: skip
def test_invalid_worker_address_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="must be HOST:PORT"):
        parse_address(text)


def test_wildcard_address_is_replaced_by_the_loopback_address() -> None:
    assert format_address("0.0.0.0", 80) == "127.0.0.1:80"  # noqa: S104 - requested, not bound
    assert format_address("::", 80) == "[::1]:80"


async def test_sample_contains_outcomes_held_messages_and_readiness(
    unused_port: int,
) -> None:
    status, address = status_of(None, health_port=unused_port), f"127.0.0.1:{unused_port}"
    async with serving(status, exposition(status)):
        first = await scrape(address)
        assert (first.problem, first.ready, first.reasons) == ("", False, ("starting",))
        pipeline = FakePipeline()
        begin(status, pipeline)
        accounting = status.metrics.accounting
        for kind in (OutcomeKind.RECORDED, OutcomeKind.RECORDED, OutcomeKind.DUPLICATE):
            accounting.open()
            accounting.close(Outcome(kind))
        accounting.open()
        second = await scrape(address)
    assert (second.problem, second.ready, second.reasons, second.held) == ("", True, (), 1)
    assert second.version
    rates = second.rates(first)
    assert rates is not None
    seconds = second.at_seconds - first.at_seconds
    counts = {kind: round(rate * seconds, 6) for kind, rate in rates.items()}
    assert counts == {
        OutcomeKind.RECORDED: 2,
        OutcomeKind.DUPLICATE: 1,
        OutcomeKind.DEAD_LETTERED: 0,
        OutcomeKind.RETURNED: 0,
    }


def test_rates_need_two_samples_of_the_same_process() -> None:
    def sample(count: float, at_seconds: float, problem: str = "") -> Sample:
        return Sample("w", at_seconds, problem=problem, settled=dict.fromkeys(OutcomeKind, count))

    assert sample(30, 12).rates(sample(10, 2)) == dict.fromkeys(OutcomeKind, 2.0)
    assert sample(30, 12).rates(None) is None
    assert sample(5, 12).rates(sample(10, 2)) is None, "restarted"
    assert sample(30, 2).rates(sample(10, 2)) is None
    assert sample(30, 12).rates(sample(10, 2, "no response")) is None
    assert sample(30, 12, "no response").rates(sample(10, 2)) is None


@asynccontextmanager
async def _responding(port: int, body: bytes, status: int = 200, **more: Any) -> AsyncIterator[str]:
    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=body, status=status, **more)

    app = web.Application()
    app.router.add_get("/metrics", respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("body", "status", "headers"),
    [
        (b"<html>", 200, {}),
        (b"up 1\n", 200, {}),
        (b"\xff\xfe", 200, {}),
        (b"", 404, {}),
        (b"", 302, {"Location": "http://169.254.169.254/"}),
        (b"# " + b"x" * 2_000_000, 200, {}),
    ],
)
async def test_other_service_is_reported_as_a_problem(
    unused_port: int, body: bytes, status: int, headers: dict[str, str]
) -> None:
    async with _responding(unused_port, body, status, headers=headers) as address:
        sample = await scrape(address)
    assert sample.problem == "is not this service's health endpoint"


async def test_unresponsive_worker_is_reported_and_does_not_block_the_others(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scraping, "_RESPONSE_TIMEOUT_SECONDS", 0.2)
    silent = web.Application()

    async def wait(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    silent.router.add_get("/metrics", wait)
    runner = web.AppRunner(silent, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_port).start()
    slow, refused = await scrape_all([f"127.0.0.1:{unused_port}", "127.0.0.1:1"])
    await runner.cleanup()
    assert slow.problem == "no response within 0.2 s"
    assert refused.problem == "no response (Connection refused)"
