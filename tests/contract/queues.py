"""Lend the queue a pair of queues of its own, on any of the servers."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from tests.contract.running import RunningServers
from tests.contract.store import real_session
from tests.simulation.faults import Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from worker.aws.queue_lookup import open_queues
from worker.aws.sqs import Queue
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSRejectedError, LeaseLostError
from worker.settings import AWSSettings, Settings


@dataclass(frozen=True, slots=True)
class QueueServer:
    """A server, and where it is known to answer otherwise than the others.

    Attributes:
        keeps_trace_header: an AWSTraceHeader is handed out again, as on AWS.
        keeps_trace_header_of_batch: also where it was sent by SendMessageBatch.
        keeps_group_id: so is the MessageGroupId of a standard queue.
        refuses_garbage: a receipt handle that was never issued fails its entry, as on AWS.
        refuses_second_delete: deleting what is deleted fails; AWS accepts it.
        stale_handle_deletes: an older receipt handle deletes the message all the same.
        stale_handle_hides: it also changes its visibility.
        refuses_control_characters: a body outside XML's characters fails, as on AWS.
        takes_astral_characters: one inside them, beyond U+FFFF, does not.
        fast_calls: the calls go past most of the SDK.
    """

    name: str
    keeps_trace_header: bool = True
    keeps_trace_header_of_batch: bool = True
    keeps_group_id: bool = True
    refuses_garbage: bool = True
    refuses_second_delete: bool = False
    stale_handle_deletes: bool = False
    stale_handle_hides: bool = False
    refuses_control_characters: bool = True
    takes_astral_characters: bool = True
    fast_calls: bool = True

    def __str__(self) -> str:
        return f"{self.name}{'' if self.fast_calls else '-stock'}"


_MOTO = QueueServer(
    "moto",
    keeps_trace_header_of_batch=False,
    stale_handle_deletes=True,
    stale_handle_hides=True,
    refuses_control_characters=False,
)
_FAUXQS = QueueServer(
    "fauxqs",
    keeps_trace_header=False,
    keeps_trace_header_of_batch=False,
    keeps_group_id=False,
    refuses_garbage=False,
    takes_astral_characters=False,
)
_MINISTACK = QueueServer("ministack", keeps_trace_header_of_batch=False, refuses_second_delete=True)

QUEUES = [
    pytest.param(server, id=str(server), marks=marks)
    for server, marks in (
        (QueueServer("simulated"), []),
        (_MOTO, []),
        (replace(_MOTO, fast_calls=False), []),
        (_FAUXQS, [pytest.mark.servers]),
        (replace(_FAUXQS, fast_calls=False), [pytest.mark.servers]),
        (_MINISTACK, [pytest.mark.servers]),
    )
]


class QueuePlace:
    """Two queue names that nobody else uses, and the session that leads to them."""

    def __init__(self, server: QueueServer, servers: RunningServers) -> None:
        unique = uuid4().hex[:12]
        self.server = server
        self.calls: Counter[str] = Counter()
        self.session: Any = real_session()
        aws: dict[str, Any] = {
            "region": "us-east-1",
            "call_timeout_seconds": 20.0,
            "fast_calls": server.fast_calls,
        }
        if server.name == "simulated":
            faults = Faults(1)
            self.session = SimulatedSession(SimulatedSQS(faults), SimulatedDynamoDB(faults))
        else:
            aws["sqs_endpoint_url"] = servers.url(server.name)
        self._values: dict[str, Any] = {
            "aws": AWSSettings(**aws),
            "queue": f"source-{unique}",
            "dead_letter_queue": f"dead-{unique}",
        }

    def settings(self, **changes: Any) -> Settings:
        """Return settings that lead here."""
        return Settings(**(self._values | changes))

    def open(self, **changes: Any) -> AbstractAsyncContextManager[tuple[Queue, Queue]]:
        """Open both queues."""
        return open_queues(self.settings(**changes), calls=self.calls, session=self.session)

    def client(self) -> Any:
        """Return a context manager that opens a client of our own."""
        settings = self.settings()
        return self.session.client(
            "sqs", region_name=settings.aws.region, endpoint_url=settings.aws.sqs_endpoint_url
        )

    async def make(self, name: str, **attributes: str) -> str:
        """Make a queue and return its URL."""
        async with self.client() as client:
            answer = await client.create_queue(QueueName=name, Attributes=attributes)
        url: str = answer["QueueUrl"]
        return url


async def take(
    queue: Queue, count: int, *, visibility_timeout_seconds: int = 60
) -> list[ReceivedMessage]:
    """Receive exactly so many messages."""
    taken: list[ReceivedMessage] = []
    while len(taken) < count:
        messages = await queue.receive(
            count - len(taken),
            wait_seconds=5,
            visibility_timeout_seconds=visibility_timeout_seconds,
        )
        assert messages, f"only {len(taken)} of {count} messages are there"
        taken += messages
    return taken


async def is_empty(queue: Queue) -> bool:
    """Tell whether nothing can be received."""
    return not await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=0)


def is_refused(error: AWSError | None) -> bool:
    """Tell whether an entry failed for good, as one without a valid handle does."""
    return isinstance(error, LeaseLostError | AWSRejectedError)
