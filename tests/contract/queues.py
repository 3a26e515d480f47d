"""SQS servers, and an environment of two queues on one of them."""

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
from worker.aws.sqs import Queue, open_queues
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSRejectedError, LeaseLostError
from worker.settings import AWSSettings, Settings


@dataclass(frozen=True, slots=True)
class QueueServer:
    """SQS server and its known differences from AWS.

    Attributes:
        name: Name of the server.
        keeps_trace_header: Receive returns the AWSTraceHeader, as on AWS.
        keeps_trace_header_of_batch: It also returns one sent by SendMessageBatch.
        keeps_group_id: Receive returns the MessageGroupId of a standard queue, as on AWS.
        rejects_unknown_handle: A receipt handle that was never issued fails its entry, as on AWS.
        rejects_second_delete: Deleting a deleted message fails; AWS accepts it.
        stale_handle_deletes: An older receipt handle deletes the message.
        stale_handle_hides: An older receipt handle changes the visibility.
        rejects_control_characters: A body with characters outside XML's set fails, as on AWS.
        accepts_astral_characters: A body with characters beyond U+FFFF is accepted, as on AWS.
        fast_calls: Calls use the signed fast path instead of most of the SDK.
    """

    name: str
    keeps_trace_header: bool = True
    keeps_trace_header_of_batch: bool = True
    keeps_group_id: bool = True
    rejects_unknown_handle: bool = True
    rejects_second_delete: bool = False
    stale_handle_deletes: bool = False
    stale_handle_hides: bool = False
    rejects_control_characters: bool = True
    accepts_astral_characters: bool = True
    fast_calls: bool = True

    def __str__(self) -> str:
        return f"{self.name}{'' if self.fast_calls else '-stock'}"


_MOTO = QueueServer(
    "moto",
    keeps_trace_header_of_batch=False,
    stale_handle_deletes=True,
    stale_handle_hides=True,
    rejects_control_characters=False,
)
_FAUXQS = QueueServer(
    "fauxqs",
    keeps_trace_header=False,
    keeps_trace_header_of_batch=False,
    keeps_group_id=False,
    rejects_unknown_handle=False,
    accepts_astral_characters=False,
)
_MINISTACK = QueueServer("ministack", keeps_trace_header_of_batch=False, rejects_second_delete=True)

QUEUE_SERVERS = [
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


class QueueEnvironment:
    """Two unique queue names on a server, and a session for it."""

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
        """Return settings for this environment."""
        return Settings(**(self._values | changes))

    def open(self, **changes: Any) -> AbstractAsyncContextManager[tuple[Queue, Queue]]:
        """Return a context manager that opens both queues."""
        return open_queues(self.settings(**changes), calls=self.calls, session=self.session)

    def client(self) -> Any:
        """Return a context manager that opens a plain SQS client."""
        settings = self.settings()
        return self.session.client(
            "sqs", region_name=settings.aws.region, endpoint_url=settings.aws.sqs_endpoint_url
        )

    async def create_queue(self, name: str, **attributes: str) -> str:
        """Create a queue and return its URL."""
        async with self.client() as client:
            response = await client.create_queue(QueueName=name, Attributes=attributes)
        url: str = response["QueueUrl"]
        return url


async def receive(
    queue: Queue, count: int, *, visibility_timeout_seconds: int = 60
) -> list[ReceivedMessage]:
    """Receive exactly `count` messages."""
    received: list[ReceivedMessage] = []
    while len(received) < count:
        messages = await queue.receive(
            count - len(received),
            wait_seconds=5,
            visibility_timeout_seconds=visibility_timeout_seconds,
        )
        assert messages, f"received only {len(received)} of {count} messages"
        received += messages
    return received


async def is_empty(queue: Queue) -> bool:
    """Return whether no message can be received."""
    return not await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=0)


def is_permanent_failure(error: AWSError | None) -> bool:
    """Return whether an entry failed permanently, as one without a valid handle does."""
    return isinstance(error, LeaseLostError | AWSRejectedError)
