"""A client of SQS that returns one response to every call."""

from __future__ import annotations

from typing import Any

from worker.aws.sqs import Queue
from worker.domain.message import ReceivedMessage


class OneResponse:
    """Client that returns one response to every call and records the requests."""

    def __init__(self, response: dict[str, Any]) -> None:
        self.response = response
        self.requests: list[dict[str, Any]] = []

    async def _call(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        return self.response

    receive_message = delete_message_batch = send_message_batch = _call
    change_message_visibility_batch = get_queue_attributes = get_queue_url = _call


def queue_of(client: Any, url: str = "https://sqs.test/q") -> Queue:
    return Queue(client, url)


async def receive(queue: Queue, most: int = 10) -> list[ReceivedMessage]:
    return await queue.receive(most, wait_seconds=0, visibility_timeout_seconds=30)
