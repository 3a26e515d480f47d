"""Client of one SQS queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from worker.aws.calls import calling, split_if_rejected
from worker.aws.fast_path.caller import Caller
from worker.aws.queue_state import QueueState, read_queue_state
from worker.aws.sqs_responses import (
    MALFORMED,
    SuccessCheck,
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
    """Operations on a queue that the pipeline needs."""

    url: str

    @property
    def message_max_bytes(self) -> int:
        """Limit of a message's body and attributes together."""

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Receive up to 10 messages."""

    async def delete(self, messages: Sequence[ReceivedMessage], /) -> list[AWSError | None]:
        """Delete messages."""

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]], /
    ) -> list[AWSError | None]:
        """Make each message visible again after a number of seconds."""

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send messages."""


class Queue:
    """SQS queue.

    Batch calls take at most 10 entries and return one result for each, in order: None for success,
    or an error. A batch that SQS rejects as a whole is repeated in halves, so that only the entry
    at fault fails.

    Args:
        client: Client of the SDK.
        url: URL of the queue.
        caller: Caller for batches; by default the SDK.
        poll_caller: Caller for long polls, which occupy their connections; by default the SDK.
        call_timeout_seconds: Deadline of a call; for a poll, in addition to its wait time. Must be
            well below the visibility timeout, or messages could become visible again while the
            response is still being received.
        calls: Counter of calls by operation.
        events: Counter of events, such as malformed messages.

    Attributes:
        message_max_bytes: MaximumMessageSize from the last call of `state`; before that, the limit
            of SQS.
    """

    def __init__(
        self,
        client: SQSClient,
        url: str,
        *,
        caller: Caller | None = None,
        poll_caller: Caller | None = None,
        call_timeout_seconds: float = 10.0,
        calls: Counter[str] | None = None,
        events: Counter[str] | None = None,
    ) -> None:
        self._client = client
        self._caller = caller or Caller(client)
        self._poll_caller = poll_caller or Caller(client)
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
        self, operation: str, entries: list[dict[str, Any]], confirmed: SuccessCheck | None = None
    ) -> list[AWSError | None]:
        async with self._call(operation):
            response = await self._caller.call(
                operation, {"QueueUrl": self.url, "Entries": entries}
            )
            return batch_results(response, len(entries), confirmed)

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Receive up to 10 messages, waiting for the first one.

        Args:
            max_messages: Maximum number of messages to request.
            wait_seconds: Wait time of the long poll.
            visibility_timeout_seconds: Visibility timeout of the messages.

        Returns:
            All messages of the response, even more than requested, without malformed ones.

        Raises:
            AWSError: The poll failed. Messages it may have received become visible again after
                their visibility timeout.
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
            response = await self._poll_caller.call("ReceiveMessage", request)
            return self._received(list_member(response, "Messages"), response_date(response))

    def _received(self, entries: Sequence[Any], date: str) -> list[ReceivedMessage]:
        """Return the messages of a response; log and leave malformed ones in the queue."""
        messages = []
        for entry in entries:
            try:
                messages.append(read_message(entry, date))
            except MALFORMED as error:
                self._events["unreadable_messages"] += 1
                _log.warning(
                    "malformed message left in queue",
                    message_id=uuid_of(entry),
                    event_id=None,  # no part of a malformed message is trusted
                    outcome="left",
                    why=error_text(error),
                )
        return messages

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        """Delete messages."""
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
        """Make each message visible again after a number of seconds; 0 returns it immediately."""
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
        """Send messages; one is sent only if SQS returns a message id and the MD5 of its body."""
        return await split_if_rejected(self._send, messages)

    async def _send(self, messages: Sequence[OutgoingMessage]) -> list[AWSError | None]:
        entries = [_entry(index, message) for index, message in enumerate(messages)]

        def confirmed(index: int, success: Mapping[str, Any]) -> bool:
            md5 = success.get("MD5OfMessageBody")
            return bool(success.get("MessageId")) and md5 == body_md5(messages[index].body)

        return await self._batch("SendMessageBatch", entries, confirmed)

    async def state(self) -> QueueState:
        """Return the state of the queue: depth, retention, redrive policy, message size limit."""
        async with self._call("GetQueueAttributes"):
            response = await self._client.get_queue_attributes(
                QueueUrl=self.url, AttributeNames=["All"]
            )
            state = read_queue_state(self.url, response["Attributes"])
        self.message_max_bytes = state.message_max_bytes
        return state

    async def check_destination(self) -> str:
        """Check that the queue is a possible destination and read its message size limit.

        Returns:
            Why the limit could not be read, in which case the limit of SQS applies; empty if it
            was read.

        Raises:
            UsageError: The queue is a FIFO queue.
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
                f"{self.url} is a FIFO queue; name a standard queue (nothing was sent)"
            )
        return problem


def queue_name(url: str) -> str:
    """Return the name of a queue from its URL."""
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
