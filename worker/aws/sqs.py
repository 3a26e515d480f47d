"""Calls to one SQS queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from worker.aws.calls import calling, split_if_rejected
from worker.aws.fast_path.caller import Caller, StockCaller
from worker.aws.queue_state import QueueState, read_queue_state
from worker.aws.sqs_responses import (
    UNREADABLE,
    Confirmed,
    batch_results,
    body_md5,
    list_member,
    read_message,
    response_date,
    uuid_of,
)
from worker.domain.message import (
    BATCH_MAX_ENTRIES,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    ReceivedMessage,
)
from worker.errors import AWSDeniedError, AWSError, AWSRejectedError, UsageError
from worker.runtime.redaction import error_text

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_log: Final = structlog.get_logger()
_VISIBILITY_MAX_SECONDS: Final = 43_200
_SYSTEM_ATTRIBUTES: Final = [
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "AWSTraceHeader",
    "MessageGroupId",
]


class MessageQueue(Protocol):
    """What the stages need of a queue."""

    url: str

    @property
    def message_max_bytes(self) -> int:
        """Limit of a message's body and attributes together."""

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Take up to 10 messages."""

    async def delete(self, messages: Sequence[ReceivedMessage], /) -> list[AWSError | None]:
        """Delete messages for good."""

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]], /
    ) -> list[AWSError | None]:
        """Let each message reappear after so many seconds."""

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send messages."""


class Queue:
    """One SQS queue.

    Batch calls take at most 10 entries and give one result or error for each, in order. A batch
    that SQS rejects as a whole is repeated in halves, so that an entry fails alone.

    Args:
        client: for everything but long polls.
        url: the queue.
        poll_client: for long polls, which keep their connections busy; `client` if absent.
        caller: for batches; without it they go the SDK's own way.
        poll_caller: for long polls; without it they go the SDK's own way.
        call_timeout_seconds: deadline of every call; a poll's wait comes on top. Well below the
            visibility timeout, or an answer could be redelivered while it is still arriving.
        calls: where calls are counted by operation.
        events: where messages that cannot be read are counted.

    Attributes:
        message_max_bytes: MaximumMessageSize, as `state` read it last; until then the largest that
            SQS allows.
    """

    def __init__(  # noqa: PLR0913 - wiring, named at its one call
        self,
        client: SQSClient,
        url: str,
        *,
        poll_client: SQSClient | None = None,
        caller: Caller | None = None,
        poll_caller: Caller | None = None,
        call_timeout_seconds: float = 10.0,
        calls: Counter[str] | None = None,
        events: Counter[str] | None = None,
    ) -> None:
        self._client = client
        self._caller = caller or StockCaller(client)
        self._poll_caller = poll_caller or StockCaller(poll_client or client)
        self.url = url
        self.message_max_bytes = MESSAGE_MAX_BYTES
        self._timeout = call_timeout_seconds
        self._calls = calls
        self._events = events if events is not None else Counter()

    def _call(
        self, operation: str, timeout_seconds: float | None = None
    ) -> AbstractAsyncContextManager[None]:
        timeout = timeout_seconds or self._timeout
        return calling(operation, timeout, self._calls, target=queue_name(self.url))

    async def _batch(
        self, operation: str, entries: list[dict[str, Any]], confirmed: Confirmed | None = None
    ) -> list[AWSError | None]:
        async with self._call(operation):
            answer = await self._caller.call(operation, {"QueueUrl": self.url, "Entries": entries})
            return batch_results(answer, len(entries), confirmed)

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Take up to 10 messages, waiting for the first one.

        Returns:
            More than that where the server sends more; messages that cannot be read are left out.

        Raises:
            AWSError: the poll failed; whatever it was about to hand out reappears by itself.
        """
        deadline = wait_seconds + self._timeout
        async with self._call("ReceiveMessage", deadline):
            request = {
                "QueueUrl": self.url,
                "MaxNumberOfMessages": min(max_messages, BATCH_MAX_ENTRIES),
                "WaitTimeSeconds": wait_seconds,
                "VisibilityTimeout": visibility_timeout_seconds,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            }
            answer = await self._poll_caller.call("ReceiveMessage", request)
            return self._received(list_member(answer, "Messages"), response_date(answer))

    def _received(self, entries: Sequence[Any], date: str) -> list[ReceivedMessage]:
        """Read messages; those that cannot be read stay in the queue, whatever the others are."""
        messages = []
        for entry in entries:
            try:
                messages.append(read_message(entry, date))
            except UNREADABLE as error:
                self._events["unreadable_messages"] += 1
                _log.warning(
                    "message left in the queue: it cannot be read",
                    message_id=uuid_of(entry),
                    event_id=None,  # whatever is in there is not to be believed
                    outcome="left",
                    why=error_text(error),
                )
        return messages

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        """Delete messages for good."""
        return await split_if_rejected(self._delete, messages)

    async def _delete(self, messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        entries = [
            {"Id": str(index), "ReceiptHandle": message.receipt_handle}
            for index, message in enumerate(messages)
        ]
        return await self._batch("DeleteMessageBatch", entries)

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]]
    ) -> list[AWSError | None]:
        """Let each message reappear after so many seconds from now; 0 hands it back at once."""
        return await split_if_rejected(self._change_visibility, changes)

    async def _change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]]
    ) -> list[AWSError | None]:
        entries = [
            {
                "Id": str(index),
                "ReceiptHandle": message.receipt_handle,
                "VisibilityTimeout": min(round(seconds), _VISIBILITY_MAX_SECONDS),
            }
            for index, (message, seconds) in enumerate(changes)
        ]
        return await self._batch("ChangeMessageVisibilityBatch", entries)

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[AWSError | None]:
        """Send messages; an entry counts as sent only when SQS states its id and the body's MD5."""
        return await split_if_rejected(self._send, messages)

    async def _send(self, messages: Sequence[OutgoingMessage]) -> list[AWSError | None]:
        entries = [_entry(index, message) for index, message in enumerate(messages)]

        def confirmed(index: int, success: Mapping[str, Any]) -> bool:
            stated = success.get("MD5OfMessageBody")
            return bool(success.get("MessageId")) and stated == body_md5(messages[index].body)

        return await self._batch("SendMessageBatch", entries, confirmed)

    async def state(self) -> QueueState:
        """Ask for depth, retention, redrive policy and message size limit."""
        async with self._call("GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self.url, AttributeNames=["All"]
            )
            state = read_queue_state(self.url, answer["Attributes"])
        self.message_max_bytes = state.message_max_bytes
        return state

    async def check_destination(self) -> str:
        """Check that messages can be sent to the queue, and read its message size limit.

        Returns:
            Why the limit could not be read, so that SQS's own is assumed; empty if it was.

        Raises:
            UsageError: It is a FIFO queue.
            AWSError: The queue does not exist, or SQS does not respond.
        """
        problem = ""
        fifo = self.url.endswith(".fifo")
        if not fifo:
            try:
                fifo = (await self.state()).fifo
            except (AWSDeniedError, AWSRejectedError) as error:
                problem = str(error)
        if fifo:
            raise UsageError(
                f"{self.url}: is a FIFO queue; name a standard queue, nothing was sent"
            )
        return problem


def queue_name(url: str) -> str:
    """Return the last part of a queue's URL."""
    return url.rsplit("/", 1)[-1]


def _entry(index: int, message: OutgoingMessage) -> dict[str, Any]:
    entry: dict[str, Any] = {"Id": str(index), "MessageBody": message.body}
    if message.attributes:
        entry["MessageAttributes"] = dict(message.attributes)
    if message.trace_header is not None:
        entry["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": message.trace_header}
        }
    if message.group_id is not None:
        entry["MessageGroupId"] = message.group_id
    return entry
