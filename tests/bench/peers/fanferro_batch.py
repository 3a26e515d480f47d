"""fanferro with a hand-written batch write: handlers wait for one BatchExecuteStatement of 25."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import fanferro
from aiobotocore.session import get_session

from tests.bench.peers.acceptances import PER_WRITE, QUEUE, statement_of, written
from tests.bench.peers.fanferro_empty import CONCURRENCY

_LINGER_SECONDS = 0.005


class BatchWriter:
    """Writes the items of concurrent handlers with as few calls as possible.

    Args:
        dynamodb: The client.
    """

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self._waiting: list[tuple[dict[str, Any], asyncio.Future[bool]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writes: set[asyncio.Task[None]] = set()

    async def write(self, body: str) -> bool:
        """Write the item of a message, and return whether it is in the table."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((statement_of(body), done))
        if len(self._waiting) >= PER_WRITE:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(_LINGER_SECONDS, self._flush)
        return await done

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        if batch:
            write = asyncio.create_task(self._write(batch))
            self._writes.add(write)
            write.add_done_callback(self._writes.discard)

    async def _write(self, batch: list[tuple[dict[str, Any], asyncio.Future[bool]]]) -> None:
        try:
            result = await self._dynamodb.batch_execute_statement(
                Statements=[statement for statement, _ in batch]
            )
        except Exception as error:  # noqa: BLE001 - each handler raises it, and fanferro retries
            for _, done in batch:
                done.set_exception(error)
            return
        for (_, done), is_written in zip(batch, written(result["Responses"]), strict=True):
            done.set_result(is_written)


async def main() -> None:
    """Process messages until SIGTERM."""
    client = fanferro.Client(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    consumer = client.consumer(client.queue(QUEUE), concurrency=CONCURRENCY)
    async with get_session().create_client("dynamodb") as dynamodb, client:
        writer = BatchWriter(dynamodb)

        async def record(message: fanferro.Message[bytes]) -> None:
            if not await writer.write(message.body.decode()):
                raise fanferro.Retry

        consumer.default(record)
        await client.run()


if __name__ == "__main__":
    asyncio.run(main())
