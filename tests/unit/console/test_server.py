"""Connections, times and errors of the console's server are bounded and explained."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import ClientSession, CookieJar, web
from structlog.testing import capture_logs

from tests.unit.console.opened import Console, fast_world, opened_console
from tests.unit.fakes import SOURCE
from worker.console import live, server
from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.page import Page, Route
from worker.console.security import Access
from worker.console.server import serving
from worker.errors import (
    AUPError,
    AWSDeniedError,
    AWSUnavailableError,
    PolicyNotFoundError,
    UsageError,
)

# Shorter than the time after which an idle connection ends anyway.
_SOON_SECONDS: Final = 20.0
_DETAIL: Final = "not for everyone"


def _failing(error: BaseException) -> Page:
    async def fail(_: ConsoleContext, __: web.Request) -> web.Response:
        raise error

    return Page("probe", "Probe", "/", (Route("GET", "/", fail),))


async def _slow(_: ConsoleContext, __: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


_SLOW: Final = Page("probe", "Probe", "/", (Route("GET", "/", _slow),))


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("--since: not a time"), 400, "--since: not a time"),
        (PolicyNotFoundError("p 1 is not published"), 404, "p 1 is not published"),
        (AUPError("the journal is in use"), 409, "the journal is in use"),
        (AWSUnavailableError("no response"), 502, "no response"),
        (AWSDeniedError("AccessDenied: sqs:ReceiveMessage"), 403, "sqs:ReceiveMessage"),
        (web.HTTPNotFound(), 404, "the console has no page at this address"),
    ],
)
async def test_expected_error_becomes_a_page(error: Exception, status: int, text: str) -> None:
    async with opened_console(await fast_world(), pages=(_failing(error),)) as console:
        page = await console.text("/", status)
    assert text in page
    assert f'title="{SOURCE}"' in page


async def test_denied_access_names_the_role_and_is_no_failure() -> None:
    error = AWSDeniedError("AccessDenied: not authorized")
    async with opened_console(await fast_world(), pages=(_failing(error),)) as console:
        page = await console.text("/", 403)
    assert "The AWS role of this console is not permitted to do this." in page


async def test_unexpected_error_is_logged_and_not_shown() -> None:
    error = RuntimeError(_DETAIL)
    async with opened_console(await fast_world(), pages=(_failing(error),)) as console:
        with capture_logs() as lines:
            page = await console.text("/", 500)
    assert _DETAIL not in page
    assert "the console failed; its log on stderr has the details" in page
    assert [(each["event"], each["page"]) for each in lines] == [
        ("console request failed", "probe")
    ]


async def test_slow_page_ends_with_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "RESPONSE_SECONDS", 0.01)
    async with opened_console(await fast_world(), pages=(_SLOW,)) as console:
        page = await console.text("/", 504)
    assert "AWS did not respond within 0.01 s; try again" in page


@asynccontextmanager
async def _served(page: Page) -> AsyncIterator[tuple[str, ConsoleContext]]:
    access = Access("127.0.0.1")
    async with (
        opened_console(await fast_world()) as console,
        serving(console.context, access, 0, (page,)) as url,
    ):
        yield url, console.context


async def _ok(_: ConsoleContext, __: web.Request) -> web.Response:
    return web.Response(text="ok")


_OK: Final = Page("probe", "Probe", "/", (Route("GET", "/", _ok),))


async def test_printed_url_opens_the_console() -> None:
    async with _served(_OK) as (url, _), ClientSession(cookie_jar=CookieJar(unsafe=True)) as client:
        response = await client.get(url)
        assert (await response.text(), response.url.query_string) == ("ok", "")


async def test_busy_port_is_named_with_the_remedy(unused_port: int) -> None:
    async with opened_console(await fast_world()) as console:
        listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_port)
        with pytest.raises(UsageError) as raised:
            async with serving(console.context, Access("127.0.0.1"), unused_port):
                pass
        listening.close()
    assert str(raised.value) == (
        f"cannot listen on 127.0.0.1:{unused_port} (Address already in use); pass a free address "
        "with --host and --port, or --port 0 for any free port"
    )


async def _is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(_SOON_SECONDS):
            return await reader.read() == b""
    except ConnectionResetError:
        return True


def _port(url: str) -> int:
    return int(url.split(":")[2].partition("/")[0])


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: "])
async def test_connection_without_a_complete_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.05)
    async with _served(_OK) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(url))
        writer.write(sent)
        assert await _is_closed(reader)
        writer.close()


async def test_connection_with_a_request_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_REQUEST_SECONDS", 0.05)
    request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    async with _served(_OK) as (url, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(url))
        for _ in range(2):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 401 " in head
            length = int(head.lower().split(b"content-length: ")[1].split()[0])
            await reader.readexactly(length)
            await asyncio.sleep(0.1)
        writer.close()


async def test_oldest_connection_is_closed_above_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "_MAX_CONNECTIONS", 3)
    async with _served(_OK) as (url, _):
        opened = [await asyncio.open_connection("127.0.0.1", _port(url)) for _ in range(4)]
        assert await _is_closed(opened[0][0])
        assert not any(reader.at_eof() for reader, _ in opened[1:])
        for _, writer in opened:
            writer.close()


def _streaming(events: Callable[[], AsyncIterator[Event]]) -> Page:
    async def respond(_: ConsoleContext, request: web.Request) -> web.StreamResponse:
        return await stream(request, events())

    return Page("probe", "Probe", "/", (Route("GET", "/", respond, streams=True),))


async def _events(console: Console) -> list[tuple[str, Any]]:
    response = await console.get("/")
    assert response.content_type == "text/event-stream"
    blocks = (await response.text()).split("\n\n")
    assert blocks[0] == "retry: 2000"
    lines = [each.splitlines() for each in blocks[1:] if each]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in lines
    ]


async def test_stream_sends_only_parts_that_changed() -> None:
    async def events() -> AsyncIterator[Event]:
        yield Event({"a": "<b>1</b>\n", "b": "x"})
        yield Event({"a": "<b>2</b>\n", "b": "x"})
        yield Event({"a": "<b>2</b>\n", "b": "x"})
        yield Event({"count": 3}, "news")

    async with opened_console(await fast_world(), pages=(_streaming(events),)) as console:
        assert await _events(console) == [
            ("parts", {"a": "<b>1</b>\n", "b": "x"}),
            ("parts", {"a": "<b>2</b>\n"}),
            ("parts", {}),
            ("news", {"count": 3}),
        ]


async def test_stream_does_not_repeat_a_part_in_which_only_relative_times_differ() -> None:
    async def events() -> AsyncIterator[Event]:
        for age, title in (("1 s", "a"), ("3 s", "a"), ("5 s", "b")):
            yield Event({"a": f'<time datetime="t" title="{title}" data-relative>{age}</time>'})

    async with opened_console(await fast_world(), pages=(_streaming(events),)) as console:
        sent = [data for _, data in await _events(console)]
    assert [list(each) for each in sent] == [["a"], [], ["a"]]


async def test_stream_ends_when_the_console_stops_and_closes_its_events() -> None:
    closed = asyncio.Event()

    async def events() -> AsyncIterator[Event]:
        try:
            yield Event({"a": "1"})
            await asyncio.Event().wait()
        finally:
            closed.set()

    async with opened_console(await fast_world(), pages=(_streaming(events),)) as console:
        response = await console.get("/")
        await response.content.readuntil(b'"1"}\n\n')
        console.context.closing.set()
        assert await response.content.read() == b""
    assert closed.is_set()


async def test_stream_ends_after_a_while_so_that_the_browser_connects_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def events() -> AsyncIterator[Event]:
        yield Event({"a": "1"})
        await asyncio.Event().wait()

    monkeypatch.setattr(live, "_STREAM_SECONDS", 0.05)
    async with opened_console(await fast_world(), pages=(_streaming(events),)) as console:
        assert await _events(console) == [("parts", {"a": "1"})]


async def test_error_of_a_stream_is_logged() -> None:
    async def events() -> AsyncIterator[Event]:
        yield Event({"a": "1"})
        raise RuntimeError(_DETAIL)

    async with opened_console(await fast_world(), pages=(_streaming(events),)) as console:
        with capture_logs() as lines:
            assert await _events(console) == [("parts", {"a": "1"})]
    assert [each["event"] for each in lines] == ["console stream failed"]
