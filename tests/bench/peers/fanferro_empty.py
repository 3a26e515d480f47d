"""fanferro with an empty handler: it receives, routes and deletes, but writes nothing."""

from __future__ import annotations

import asyncio
import os

import fanferro

from tests.bench.peers.acceptances import QUEUE

# Enough for several full batches of the write in the other program.
CONCURRENCY = 100


async def ignore(message: fanferro.Message[bytes]) -> None:
    """Acknowledge the message by returning."""


async def main() -> None:
    """Process messages until SIGTERM."""
    client = fanferro.Client(endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    consumer = client.consumer(client.queue(QUEUE), concurrency=CONCURRENCY)
    consumer.default(ignore)
    async with client:
        await client.run()


if __name__ == "__main__":
    asyncio.run(main())
