"""Connections of the signed fast path: time limits, reuse, limits of the pool and closing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError

from tests.wire.pair import QUEUE, REQUESTS, SQS, opened_client, outcome_of, paired
from tests.wire.recorder import Failure, Pieces, Recorder, Step, Truncated, http_response
from worker.aws.fast_path.caller import SignedCaller

DELETE = REQUESTS["DeleteMessageBatch"][0]
BODY = b'{"Successful": [{"Id": "0"}]}'
DELETED = http_response(BODY)
CLOSE = {"Connection": "close"}


@asynccontextmanager
async def _signed(recorder: Recorder, **changes: Any) -> AsyncIterator[SignedCaller]:
    async with opened_client("sqs", recorder.url, **{"attempts": 1, **changes}) as client:
        yield await SignedCaller.open(client, SQS)


async def _delete(caller: SignedCaller) -> Any:
    return (await caller.call("DeleteMessageBatch", DELETE))["Successful"]


ENDED_BY_EOF = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
SERVED: dict[str, Step] = {
    "ends with the connection": Truncated(ENDED_BY_EOF),
    "old version": Truncated(DELETED.replace(b"HTTP/1.1", b"HTTP/1.0")),
    "chunks with extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'A;a="b;c"\r\n'
        + BODY[:10]
        + b"\r\n13\r\n"
        + BODY[10:]
        + b"\r\n0\r\nX-Amz-Crc32: 1\r\n\r\n"
    ),
    "byte by byte": Pieces(tuple(bytes([byte]) for byte in DELETED)),
    "header twice": http_response(BODY, headers={"Date": "a", "date": "b"}),
}


@pytest.mark.parametrize("name", SERVED)
async def test_both_callers_accept_any_framing(recorder: Recorder, name: str) -> None:
    async with paired(recorder, "DeleteMessageBatch", attempts=1) as pair:
        sdk, signed = await pair.call("DeleteMessageBatch", DELETE, SERVED[name])
    assert sdk.error is signed.error is None
    assert sdk.response == signed.response


REFUSED: dict[str, Step] = {
    "truncated chunk": Truncated(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1d\r\n" + BODY + b"\r\n"
    ),
    "wrong chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n" + BODY,
    "two lengths": http_response(BODY, headers={"content-length": str(len(BODY) + 1)}),
    "length and chunks": http_response(BODY, headers={"Transfer-Encoding": "chunked"}),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_both_callers_refuse_wrong_framing(recorder: Recorder, name: str) -> None:
    async with paired(recorder, "DeleteMessageBatch", attempts=1) as pair:
        sdk, signed = await pair.call("DeleteMessageBatch", DELETE, REFUSED[name])
    assert type(sdk.error) is type(signed.error)
    assert isinstance(signed.error, ConnectionClosedError | HTTPClientError)


async def test_read_timeout_limits_the_time_between_bytes_only(recorder: Recorder) -> None:
    pieces = tuple(DELETED[at : at + 20] for at in range(0, len(DELETED), 20))
    async with _signed(recorder, read_timeout=0.2) as caller:
        recorder.play(Pieces(pieces, pause_seconds=0.06))
        assert await _delete(caller) == [{"Id": "0"}]
    assert len(pieces) * 0.06 > 2 * 0.2


@pytest.mark.parametrize("sent", [b"", DELETED[:20], DELETED[:-5]], ids=["none", "head", "body"])
async def test_read_timeout_ends_every_request_of_a_connection(
    recorder: Recorder, sent: bytes
) -> None:
    stalled = Pieces((sent, b""), pause_seconds=60) if sent else Failure.STALLED
    loop = asyncio.get_running_loop()
    async with _signed(recorder, read_timeout=0.2) as caller:
        recorder.play(Pieces((DELETED[:20], DELETED[20:]), pause_seconds=0.05), stalled)
        await _delete(caller)
        start = loop.time()
        with pytest.raises(ReadTimeoutError):
            await _delete(caller)
    assert 0.15 < loop.time() - start < 5
    assert recorder.connections == 1


async def test_idle_connection_expires(recorder: Recorder) -> None:
    async with _signed(recorder, connector_args={"keepalive_timeout": 0.05}) as caller:
        recorder.play(DELETED)
        await _delete(caller)
        await recorder.all_closed()  # by the client, which nobody called meanwhile
        await _delete(caller)
    assert recorder.connections == 2


async def test_half_closed_connection_is_not_reused(recorder: Recorder) -> None:
    async with _signed(recorder) as caller:
        recorder.play(DELETED)
        await _delete(caller)
        for writer in recorder.writers:
            writer.write_eof()
        await _delete(caller)
    assert recorder.connections == 2


async def test_large_request_is_sent_completely(recorder: Recorder) -> None:
    large = {**QUEUE, "Entries": [{"Id": "0", "MessageBody": "x" * 8_000_000}]}
    async with _signed(recorder, read_timeout=10) as caller:
        step = http_response(b'{"Successful": []}')
        outcome = await outcome_of(recorder, caller, "SendMessageBatch", large, step)
    assert outcome.error is None
    assert json.loads(outcome.requests[0].body) == large


async def test_cancelled_wait_for_a_connection_leaves_the_pool_intact(recorder: Recorder) -> None:
    async with _signed(recorder, max_pool_connections=1, read_timeout=10) as caller:
        recorder.play(Pieces((DELETED[:20], DELETED[20:]), pause_seconds=0.05), DELETED)
        calls = [asyncio.create_task(_delete(caller)) for _ in range(4)]
        await recorder.arrived.wait()
        calls[1].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[0] == results[2] == results[3] == [{"Id": "0"}]
    assert recorder.connections == 1
    assert len(recorder.requests) == 3


async def test_waiting_calls_get_a_connection_in_order(recorder: Recorder) -> None:
    sent = [{**QUEUE, "Entries": [{"Id": str(i), "ReceiptHandle": "h"}]} for i in range(8)]
    async with _signed(recorder, max_pool_connections=1) as caller:
        recorder.play(DELETED)
        await asyncio.gather(*[caller.call("DeleteMessageBatch", each) for each in sent])
    received = [json.loads(request.body)["Entries"][0]["Id"] for request in recorder.requests]
    assert received == [str(i) for i in range(8)]
    assert recorder.connections == 1


async def test_every_waiting_call_proceeds_after_a_failure(recorder: Recorder) -> None:
    async with _signed(recorder, max_pool_connections=1) as caller:
        recorder.play(Failure.CLOSED, Failure.RESET, DELETED)
        calls = [_delete(caller) for _ in range(6)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(each, Exception) for each in results] == [True] * 2 + [False] * 4


async def test_closing_the_client_closes_its_connections(recorder: Recorder) -> None:
    async with _signed(recorder) as caller:
        recorder.play(DELETED)
        await asyncio.gather(*[_delete(caller) for _ in range(3)])
        recorder.play(Failure.STALLED)
        stalled = asyncio.create_task(_delete(caller))
        await recorder.arrived.wait()
    with pytest.raises(ConnectionClosedError):
        await stalled
    await recorder.all_closed()


def _change_opening(
    caller: SignedCaller, monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Awaitable[None]]
) -> None:
    """Change each connection between its opening and its first request."""
    sessions: Any = caller._client._endpoint.http_session
    (connector,) = [each.connector for each in sessions._sessions.values()]
    create = connector._create_connection

    async def create_and_change(*args: Any) -> Any:
        protocol = await create(*args)
        await change(protocol)
        return protocol

    monkeypatch.setattr(connector, "_create_connection", create_and_change)


async def _lose(protocol: Any) -> None:
    closed = protocol.closed
    protocol.transport.close()
    await closed


async def _receive(protocol: Any) -> None:
    protocol.data_received(DELETED)


@pytest.mark.parametrize("change", [_lose, _receive])
async def test_connection_spoiled_before_its_first_request_fails_the_call(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], Awaitable[None]],
) -> None:
    async with _signed(recorder) as caller:
        _change_opening(caller, monkeypatch, change)
        outcome = await outcome_of(recorder, caller, "DeleteMessageBatch", DELETE, DELETED)
    assert type(outcome.error) is ConnectionClosedError
    assert outcome.requests == []
