"""SQS queues: their operations, their lookup, and probes of their permissions."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from worker.aws.access import Operation, Probe
from worker.aws.calls import calling, split_if_rejected
from worker.aws.client import (
    SDK_ATTEMPTS,
    SDK_POLL_ATTEMPTS,
    client_config,
    new_session,
    open_client,
)
from worker.aws.error_codes import QUEUE_ADVICE
from worker.aws.fast_path.caller import Caller, open_caller
from worker.aws.sdk_errors import translating
from worker.aws.sqs_responses import (
    MALFORMED,
    QueueState,
    batch_results,
    list_member,
    read_message,
    read_queue_state,
    read_usual_messages,
    response_date,
    string_member,
    uuid_of,
)
from worker.domain.message import (
    BATCH_MAX_ENTRIES,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    ReceivedMessage,
)
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    LeaseLostError,
    UsageError,
)
from worker.runtime.concurrent_calls import run_both
from worker.runtime.redaction import error_text
from worker.settings import AWSSettings, Settings

if TYPE_CHECKING:
    import aioboto3
    from types_aiobotocore_sqs import SQSClient

_log: Final = structlog.get_logger()
_VISIBILITY_MAX_SECONDS: Final = 43_200
_BATCHES: Final = ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")
_PROBE: Final = "aup-worker-probe"
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

    def _call(self, operation: str, wait_seconds: int = 0) -> AbstractAsyncContextManager[None]:
        timeout = self._timeout + wait_seconds
        return calling(operation, timeout, self._calls, target=queue_name(self.url))

    async def _batch(
        self, operation: str, entries: Sequence[dict[str, Any]]
    ) -> list[AWSError | None]:
        return await split_if_rejected(partial(self._call_batch, operation), entries)

    async def _call_batch(
        self, operation: str, entries: Sequence[dict[str, Any]]
    ) -> list[AWSError | None]:
        async with self._call(operation):
            request = {"QueueUrl": self.url, "Entries": entries}
            response = await self._caller.call(operation, request)
            return batch_results(response, entries)

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
        async with self._call("ReceiveMessage", wait_seconds):
            request = {
                "QueueUrl": self.url,
                "MaxNumberOfMessages": min(max_messages, BATCH_MAX_ENTRIES),
                "WaitTimeSeconds": wait_seconds,
                "VisibilityTimeout": visibility_timeout_seconds,
                "MessageAttributeNames": ["All"],
                "MessageSystemAttributeNames": _SYSTEM_ATTRIBUTES,
            }
            response = await self._poll_caller.call("ReceiveMessage", request, read_usual_messages)
            if isinstance(response, list):
                return response
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
        entries = [
            {"Id": str(index), "ReceiptHandle": message.receipt_handle}
            for index, message in enumerate(messages)
        ]
        return await self._batch("DeleteMessageBatch", entries)

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]]
    ) -> list[AWSError | None]:
        """Make each message visible again after a number of seconds; 0 returns it immediately."""
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
        entries = [_entry(index, message) for index, message in enumerate(messages)]
        return await self._batch("SendMessageBatch", entries)

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
        problem, fifo = "", self.url.endswith(".fifo")
        try:
            fifo = fifo or (await self.state()).fifo
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


@asynccontextmanager
async def open_queues(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[tuple[Queue, Queue]]:
    """Open the queue of acceptances and the dead-letter queue.

    Long polls and all other calls have separate connection pools.

    Args:
        settings: Settings with the URLs or names of the queues.
        calls: Counter of calls by operation.
        events: Counter of events, such as malformed messages.
        session: Session of the SDK; by default a new one.

    Yields:
        The source queue and the dead-letter queue.

    Raises:
        AWSError: A queue does not exist, or its lookup failed.
    """
    async with open_finder(settings, calls=calls, events=events, session=session) as find:
        yield await run_both(find(settings.queue), find(settings.dead_letter_queue))


@asynccontextmanager
async def open_finder(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, Queue]]]:
    """Open the clients of queues and yield a function that finds a queue by URL or by name.

    Args:
        settings: Settings with concurrency, deadlines, region and endpoint.
        calls: Counter of calls by operation.
        events: Counter of events, such as malformed messages.
        session: Session of the SDK; by default a new one.

    Raises:
        AWSError: Credentials cannot be retrieved.
    """
    session = session or new_session()
    timeout = settings.aws.call_timeout_seconds
    polls = client_config(
        pool=settings.poll_concurrency,
        read_timeout_seconds=settings.wait_seconds + timeout,
        attempts=SDK_POLL_ATTEMPTS,
    )
    others = client_config(
        pool=4 * settings.settle_concurrency, read_timeout_seconds=timeout, attempts=SDK_ATTEMPTS
    )
    async with (
        _open_with_caller(session, settings.aws, polls, ("ReceiveMessage",)) as (_, poll_caller),
        _open_with_caller(session, settings.aws, others, _BATCHES) as (client, caller),
    ):

        async def find(name: str) -> Queue:
            return Queue(
                client,
                await _url(client, name, timeout),
                caller=caller,
                poll_caller=poll_caller,
                call_timeout_seconds=timeout,
                calls=calls,
                events=events,
            )

        yield find


@asynccontextmanager
async def _open_with_caller(
    session: aioboto3.Session, aws: AWSSettings, config: Any, operations: Sequence[str]
) -> AsyncIterator[tuple[SQSClient, Caller]]:
    """Open a client and a caller of some operations that shares its connections."""
    async with open_client(session, "SQS", aws, config) as client:
        with translating("SQS"):
            caller = await open_caller(client, operations, fast=aws.fast_calls)
        yield client, caller


async def _url(client: SQSClient, name: str, timeout_seconds: float) -> str:
    if name.startswith(("http://", "https://")):
        return name
    try:
        async with calling("GetQueueUrl", timeout_seconds):
            response = await client.get_queue_url(QueueName=name)
            return string_member(response, "QueueUrl")
    except AWSNotFoundError:
        raise AWSNotFoundError(f"queue {name!r} does not exist: {QUEUE_ADVICE}") from None


def source_probes(queue: MessageQueue) -> list[Probe]:
    """Return probes that delete and change the visibility of a message that does not exist."""
    missing = ReceivedMessage(_PROBE, _PROBE, "")

    async def delete() -> None:
        _raise_first(await queue.delete([missing]))

    async def change_visibility() -> None:
        _raise_first(await queue.change_visibility([(missing, 0)]))

    target = f"queue {queue_name(queue.url)}"
    return [
        Probe(Operation.DELETE, "sqs:DeleteMessage", target, delete),
        Probe(Operation.VISIBILITY, "sqs:ChangeMessageVisibility", target, change_visibility),
    ]


def dead_letter_probes(queue: MessageQueue) -> list[Probe]:
    """Return a probe that sends a batch without entries."""
    target = f"queue {queue_name(queue.url)}"
    return [Probe(Operation.DEAD_LETTER, "sqs:SendMessage", target, lambda: queue.send([]))]


def _raise_first(results: Sequence[AWSError | None]) -> None:
    for error in results:
        # Rejected for its content, so the call is permitted.
        if error is not None and not isinstance(error, AWSRejectedError | LeaseLostError):
            raise error
