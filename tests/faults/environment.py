"""Queues and tables, each behind a proxy, and checks of their final contents."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.kinds import Fault
from tests.faults.proxy import FaultProxy
from tests.integration.environment import Environment, good, sha256, stated
from tests.integration.running import ended, until
from worker.domain.outcome import OutcomeKind
from worker.pipeline.assembly import Pipeline
from worker.settings import Settings

GOOD = 20
# Bodies that can never be recorded, with the reasons of their dead letters.
HOPELESS = {
    '{"event_id": "broken': "malformed",
    json.dumps({"event_id": "nothing else"}): "invalid",
    json.dumps(stated(900, content_sha256=sha256("other"))): "content_mismatch",
}


@dataclass
class FaultyEnvironment:
    """Environment with a proxy in front of each service.

    Attributes:
        environment: The environment itself, without faults.
        queues: Proxy in front of SQS.
        tables: Proxy in front of DynamoDB.
        sent: Bodies of all messages sent.
    """

    environment: Environment
    queues: FaultProxy
    tables: FaultProxy
    sent: list[str] = field(default_factory=list)

    def settings(self, call_timeout_seconds: float = 0.75, **changes: Any) -> Settings:
        """Return settings with the URLs of the proxies."""
        aws = {
            "sqs_endpoint_url": self.queues.url,
            "dynamodb_endpoint_url": self.tables.url,
            "call_timeout_seconds": call_timeout_seconds,
            "write_concurrency": 4,
        }
        values = {
            "visibility_timeout_seconds": 3,
            "max_attempts": 500,
            "drain_timeout_seconds": 5.0,
            "stop_timeout_seconds": 8.0,
            **changes,
        }
        return self.environment.settings(aws, **values)

    def switch_on(self, chances: Mapping[Fault, float], *operations: str) -> None:
        """Inject faults into calls to both services."""
        for proxy in (self.queues, self.tables):
            proxy.faults.switch_on(chances, *operations)

    def switch_off(self) -> None:
        """Stop injecting faults."""
        for proxy in (self.queues, self.tables):
            proxy.faults.switch_off()

    def injected(self, fault: Fault) -> int:
        """Return the number of injected faults of a kind."""
        return sum(proxy.faults.injected[fault] for proxy in (self.queues, self.tables))

    async def send(self, bodies: list[str]) -> None:
        """Send messages directly, not through the proxy."""
        self.sent += bodies
        await self.environment.send(bodies)

    async def send_some_of_every_kind(self) -> None:
        """Send acceptances, some of them twice, and messages that cannot be recorded."""
        bodies = good(GOOD)
        await self.send([*bodies, *bodies[:5], *HOPELESS])

    async def wait_until_settled(self, pipeline: Pipeline) -> None:
        """Wait until every message is settled and the queue is empty."""
        await until(lambda: ended(pipeline) >= len(self.sent))
        await until(self._is_empty)

    async def _is_empty(self) -> bool:
        return await self.environment.waiting() == (0, 0)

    async def assert_each_message_settled_once(self, pipeline: Pipeline) -> None:
        """Check every message against what an independent reader finds."""
        items = await self.environment.recorded()
        assert Counter(item["user_id"] for item in items) == {f"user-{n}": 1 for n in range(GOOD)}
        assert {json.dumps(stated(int(item["event_id"][6:]))) for item in items} <= set(self.sent)
        reasons = {
            dead_letter.body: dead_letter.note["reason"]
            for dead_letter in await self.environment.dead()
        }
        assert reasons == HOPELESS
        assert pipeline.metrics.accounting.is_balanced
        assert pipeline.metrics.accounting.by_kind[OutcomeKind.RECORDED] <= GOOD

    async def until_injected(self, fault: Fault, times: int) -> None:
        """Wait until a fault has been injected a number of times."""
        async with asyncio.timeout(30):
            await until(lambda: self.injected(fault) >= times)
