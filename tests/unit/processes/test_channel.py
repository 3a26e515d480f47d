"""Channel between parent and child."""

from __future__ import annotations

import asyncio
import socket

from worker.processes.channel import Channel


async def _pair() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.open(one), await Channel.open(other)


async def test_messages_arrive_in_order_until_the_other_end_closes() -> None:
    one, other = await _pair()
    assert one.send({"number": 1, "text": "line\nbreak"})
    assert one.send({"number": 2})
    await one.aclose()
    assert await other.receive() == {"number": 1, "text": "line\nbreak"}
    assert await other.receive() == {"number": 2}
    assert await other.receive() is None
    await other.aclose()
    assert not one.send({})


async def test_incomplete_last_line_is_ignored() -> None:
    end, killed = socket.socketpair()
    channel = await Channel.open(end)
    killed.sendall(b'{"snapshot": {}}\n{"snapshot": {"metr')
    killed.close()
    assert await channel.receive() == {"snapshot": {}}
    assert await channel.receive() is None
    await channel.aclose()


async def test_reset_connection_is_the_end() -> None:
    one, other = await _pair()
    assert one.send({"unread": 1})
    await other.aclose()  # with unread data: the kernel resets the connection
    await asyncio.sleep(0)
    assert await one.receive() is None
    await one.aclose()


async def test_messages_are_dropped_while_the_other_end_does_not_read() -> None:
    one, other = socket.socketpair()
    channel = await Channel.open(one)
    sent = 0
    while channel.send({"text": "x" * 100_000}):
        sent += 1
        assert sent < 100
    other.close()
    await channel.aclose()
