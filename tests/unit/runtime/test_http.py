"""HTTP requests to servers nearby."""

from __future__ import annotations

import asyncio
import errno
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from worker.runtime.http import get_json, reason_of, request


async def _in_parts(message: web.Request) -> web.StreamResponse:
    """Respond in two parts with the method and the content of the request."""
    content = json.dumps([message.method, await message.text()]).encode()
    response = web.StreamResponse(status=int(message.query.get("status", "200")))
    await response.prepare(message)
    await response.write(content[:5])
    await asyncio.sleep(0.05)
    await response.write(content[5:])
    return response


@pytest.fixture
def server() -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/", _in_parts)
    return TestServer(app)


async def test_response_is_read_to_its_end(server: TestServer) -> None:
    async with server:
        status, body = await request("PUT", str(server.make_url("/")), 5, content={"a": 1})
        assert (status, json.loads(body)) == (200, ["PUT", '{"a": 1}'])
        assert await get_json(str(server.make_url("/")), 5) == ["GET", ""]


async def test_json_of_an_error_is_not_returned(server: TestServer) -> None:
    async with server:
        with pytest.raises(ConnectionError, match=r"^HTTP 404$"):
            await get_json(str(server.make_url("/?status=404")), 5)


async def test_missing_server_is_a_connection_error_with_its_reason() -> None:
    with pytest.raises(ConnectionError, match=r"^no response \(Connection refused\)$"):
        await request("GET", "http://127.0.0.1:1/", 5)


def test_reason_is_that_of_the_operating_system() -> None:
    error = OSError(errno.EADDRINUSE, "error while attempting to bind on address ('::', 1)")
    assert reason_of(error) == "Address already in use"
    assert reason_of(OSError(-2, "Name or service not known")) == "Name or service not known"
