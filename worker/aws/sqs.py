"""The only door to SQS."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import aioboto3
import structlog

from worker.aws.access import Operation, Probe
from worker.aws.calls import (
    calling,
    client_config,
    error_of,
    new_session,
    opened,
    split_if_rejected,
    translating,
)
from worker.aws.fast_path.caller import Caller, StockCaller, open_caller
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
    AWSUnavailableError,
    LeaseLostError,
    UsageError,
)
from worker.runtime.redaction import error_text
from worker.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_log: Final = structlog.get_logger()
_VISIBILITY_MAX_SECONDS: Final = 43_200
_PROBE: Final = "aup-worker-probe"
_BATCHES: Final = ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")
_SYSTEM_ATTRIBUTES: Final = [
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "AWSTraceHeader",
    "MessageGroupId",
]
# What reading a message raises that is not as SQS sends it.
_UNREADABLE: Final = (AttributeError, LookupError, OSError, OverflowError, TypeError, ValueError)
_REQUIRED: Final = ("MessageId", "ReceiptHandle", "Body")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
Confirmed = Callable[[int, Mapping[str, Any]], bool]


@dataclass(frozen=True, slots=True)
class QueueState:
    """What SQS tells of a queue; counts are approximate.

    Attributes:
        max_receive_count: of the redrive policy; None where there is none.
        visibility_timeout_seconds: of whoever receives without naming one.
        encryption: the KMS key, or `SSE-SQS`; empty for none, None where it is not told.
        policy: who may do what with it; None where there is none.
        redrive_allow: whose dead-letter queue it may be; None where that is not restricted.
        message_max_bytes: MaximumMessageSize, of a message's body and attributes together.
    """

    url: str
    arn: str
    visible: int
    in_flight: int
    delayed: int
    retention_seconds: int
    fifo: bool
    max_receive_count: int | None
    redrives_to: str | None
    visibility_timeout_seconds: int = 30
    encryption: str | None = None
    policy: Mapping[str, Any] | None = None
    redrive_allow: Mapping[str, Any] | None = None
    message_max_bytes: int = MESSAGE_MAX_BYTES

    @property
    def depth(self) -> int:
        """Number of messages in the queue: visible, in flight and delayed."""
        return self.visible + self.in_flight + self.delayed


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
        return calling(operation, timeout, self._calls, target=_name(self.url))

    async def _batch(
        self, operation: str, entries: list[dict[str, Any]], confirmed: Confirmed | None = None
    ) -> list[AWSError | None]:
        async with self._call(operation):
            answer = await self._caller.call(operation, {"QueueUrl": self.url, "Entries": entries})
            return _results(answer, len(entries), confirmed)

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
            return self._received(_list(answer, "Messages"), _date(answer))

    def _received(self, entries: Sequence[Any], date: str) -> list[ReceivedMessage]:
        """Read messages; those that cannot be read stay in the queue, whatever the others are."""
        messages = []
        for entry in entries:
            try:
                messages.append(_received_message(entry, date))
            except _UNREADABLE as error:
                self._events["unreadable_messages"] += 1
                _log.warning(
                    "message left in the queue: it cannot be read",
                    message_id=_uuid(entry),
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
            return bool(success.get("MessageId")) and stated == _md5(messages[index].body)

        return await self._batch("SendMessageBatch", entries, confirmed)

    async def state(self) -> QueueState:
        """Ask for depth, retention, redrive policy and message size limit."""
        async with self._call("GetQueueAttributes"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self.url, AttributeNames=["All"]
            )
            state = _state(self.url, answer["Attributes"])
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


def source_probes(queue: MessageQueue) -> list[Probe]:
    """Return attempts to settle a message that does not exist."""
    epoch = datetime.fromtimestamp(0, tz=UTC)
    nothing = ReceivedMessage(_PROBE, _PROBE, "", sent_at=epoch, first_received_at=epoch)

    async def delete() -> None:
        _raise_first(await queue.delete([nothing]))

    async def change_visibility() -> None:
        _raise_first(await queue.change_visibility([(nothing, 0)]))

    target = f"queue {_name(queue.url)}"
    return [
        Probe(Operation.DELETE, "sqs:DeleteMessage", target, delete),
        Probe(Operation.VISIBILITY, "sqs:ChangeMessageVisibility", target, change_visibility),
    ]


def dead_letter_probes(queue: MessageQueue) -> list[Probe]:
    """Return an attempt to send a batch without entries."""
    target = f"queue {_name(queue.url)}"
    return [
        Probe(Operation.DEAD_LETTER, "sqs:SendMessage", target, lambda: queue.send([])),
    ]


def _raise_first(results: Sequence[AWSError | None]) -> None:
    for error in results:
        # Refused for what it asks: so it was permitted.
        if error is not None and not isinstance(error, AWSRejectedError | LeaseLostError):
            raise error


def _name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


@asynccontextmanager
async def open_queues(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[tuple[Queue, Queue]]:
    """Open the queue of acceptances and the dead-letter queue, on one pool each for polls and rest.

    Args:
        settings: name the queues, by URL or by name.
        calls: where calls are counted by operation.
        events: where messages that cannot be read are counted.
        session: instead of one from the environment.

    Raises:
        AWSError: a queue that is named is not found, or cannot be asked for.
    """
    async with open_finder(settings, calls=calls, events=events, session=session) as found:
        yield await found(settings.queue), await found(settings.dead_letter_queue)


@asynccontextmanager
async def open_finder(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[Callable[[str], Awaitable[Queue]]]:
    """Open the pools of `open_queues`, and give what finds a queue by URL or by name.

    Args:
        settings: concurrency, deadlines and place.
        calls: where calls are counted by operation.
        events: where messages that cannot be read are counted.
        session: instead of one from the environment.

    Raises:
        AWSError: credentials cannot be had.
    """
    session = session or new_session()
    timeout = settings.aws.call_timeout_seconds
    place: dict[str, Any] = {
        "region_name": settings.aws.region,
        "endpoint_url": settings.aws.sqs_endpoint_url,
    }
    polls = client_config(
        pool=settings.poll_concurrency,
        read_timeout_seconds=settings.wait_seconds + timeout,
        attempts=1,
    )
    rest = client_config(
        pool=4 * settings.settle_concurrency, read_timeout_seconds=timeout, attempts=3
    )
    async with (
        opened(session.client("sqs", config=polls, **place), "SQS") as poll_client,
        opened(session.client("sqs", config=rest, **place), "SQS") as client,
    ):
        fast = settings.aws.fast_calls
        with translating("SQS"):
            caller = await open_caller(client, _BATCHES, fast=fast)
            poll_caller = await open_caller(poll_client, ("ReceiveMessage",), fast=fast)

        async def found(name: str) -> Queue:
            return Queue(
                client,
                await _url(client, name, timeout),
                caller=caller,
                poll_caller=poll_caller,
                call_timeout_seconds=timeout,
                calls=calls,
                events=events,
            )

        yield found


async def _url(client: SQSClient, name: str, timeout_seconds: float) -> str:
    if name.startswith(("http://", "https://")):
        return name
    try:
        async with calling("GetQueueUrl", timeout_seconds):
            answer = await client.get_queue_url(QueueName=name)
            return _text(answer, "QueueUrl")
    except AWSNotFoundError:
        raise AWSNotFoundError(
            f"queue {name!r} does not exist: create it with `aup-worker init`, or set AUP_QUEUE "
            "and AUP_DEAD_LETTER_QUEUE"
        ) from None


class _MalformedError(ValueError):
    """Part of a response is not as SQS sends it; the text names the part and quotes nothing."""

    quotes_no_response = True


def _date(answer: Mapping[str, Any]) -> str:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("date", ""))


def _received_message(message: Mapping[str, Any], date: str) -> ReceivedMessage:
    message_id, receipt_handle, body = map(message.get, _REQUIRED)
    if not (
        isinstance(message_id, str) and isinstance(receipt_handle, str) and isinstance(body, str)
    ):
        raise _MalformedError(f"{', '.join(_REQUIRED)}: missing or not a string")
    stated = message.get("MD5OfBody")
    if stated is not None and stated != _md5(body):
        raise _MalformedError("the body is not what was sent, by its MD5")
    system = message.get("Attributes", {})
    attributes = message.get("MessageAttributes", {})
    for attribute in attributes.values():
        _check_attribute(attribute)
    return ReceivedMessage(
        message_id=message_id,
        receipt_handle=receipt_handle,
        body=body,
        sent_at=_moment(system.get("SentTimestamp", "0")),
        first_received_at=_moment(system.get("ApproximateFirstReceiveTimestamp", "0")),
        receive_count=max(1, int(system.get("ApproximateReceiveCount", "1"))),
        attributes=attributes,
        trace_header=_text(system, "AWSTraceHeader") if "AWSTraceHeader" in system else None,
        group_id=_text(system, "MessageGroupId") if "MessageGroupId" in system else None,
        date=date,
    )


def _text(structure: Mapping[str, Any], name: str) -> str:
    value = structure.get(name)
    if not isinstance(value, str):
        raise _MalformedError(f"{name}: missing or not a string")
    return value


def _list(structure: Mapping[str, Any], name: str) -> list[Any]:
    value = structure.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _MalformedError(f"{name}: not an array")
    return value


def _check_attribute(attribute: Mapping[str, Any]) -> None:
    _text(attribute, "DataType")
    for name, kind in (("StringValue", str), ("BinaryValue", bytes)):
        if not isinstance(attribute.get(name), kind | None):
            raise _MalformedError(f"MessageAttributes: {name}: not what its type says")


def _uuid(message: Any) -> str | None:
    """Return the message id if it cannot be anything else."""
    found = message.get("MessageId") if isinstance(message, dict) else None
    return found if isinstance(found, str) and _UUID.fullmatch(found) else None


def _moment(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)


def _md5(body: str) -> str:
    # SQS states an MD5 as a checksum; nothing depends on its strength.
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


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


def _results(
    answer: Mapping[str, Any], count: int, confirmed: Confirmed | None = None
) -> list[AWSError | None]:
    """Read the response to a batch, strictly.

    Args:
        answer: what SQS responded.
        count: of entries, whose ids are their indexes.
        confirmed: whether a success proves what was asked for.

    Returns:
        One result for each entry, in order: what is said of it, if exactly one list names it and
        once; otherwise that its result is unknown.
    """
    said: list[list[AWSError | None]] = [[] for _ in range(count)]
    indexes = {str(index): index for index in range(count)}
    for success in _named(answer, "Successful", indexes):
        index = indexes[success["Id"]]
        proves = confirmed is None or confirmed(index, success)
        said[index].append(None if proves else AWSUnavailableError("SQS confirmed another body"))
    for failure in _named(answer, "Failed", indexes):
        said[indexes[failure["Id"]]].append(_failure(failure))
    return [each[0] if len(each) == 1 else _unknown(each) for each in said]


def _named(
    answer: Mapping[str, Any], name: str, indexes: Mapping[str, int]
) -> Iterator[Mapping[str, Any]]:
    """Return the entries of a list that name one of ours; any other disturbs none of these."""
    for entry in _list(answer, name):
        found = entry.get("Id") if isinstance(entry, dict) else None
        if isinstance(found, str) and found in indexes:
            yield entry


def _failure(failure: Mapping[str, Any]) -> AWSError:
    code, message = failure.get("Code"), failure.get("Message")
    if not isinstance(code, str):
        return AWSUnavailableError("SQS reported a failure without a code")
    return error_of(code, message if isinstance(message, str) else "")


def _unknown(said: Sequence[object]) -> AWSError:
    problem = "contradicted itself on" if said else "did not mention"
    return AWSUnavailableError(f"SQS {problem} this entry: its result is unknown")


def _state(url: str, attributes: Mapping[Any, str]) -> QueueState:
    redrive = json.loads(attributes.get("RedrivePolicy") or "{}")
    return QueueState(
        url=url,
        arn=attributes.get("QueueArn", ""),
        visible=int(attributes.get("ApproximateNumberOfMessages", 0)),
        in_flight=int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
        delayed=int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
        retention_seconds=int(attributes.get("MessageRetentionPeriod", 345_600)),
        fifo=attributes.get("FifoQueue") == "true" or url.endswith(".fifo"),
        max_receive_count=int(redrive["maxReceiveCount"]) if redrive else None,
        redrives_to=redrive.get("deadLetterTargetArn"),
        visibility_timeout_seconds=int(attributes.get("VisibilityTimeout", 30)),
        encryption=_encryption(attributes),
        policy=_document(attributes.get("Policy")),
        redrive_allow=_document(attributes.get("RedriveAllowPolicy")),
        message_max_bytes=min(
            int(attributes.get("MaximumMessageSize", MESSAGE_MAX_BYTES)), MESSAGE_MAX_BYTES
        ),
    )


def _document(text: str | None) -> Mapping[str, Any] | None:
    # What cannot be read is no reason not to start.
    try:
        document = json.loads(text or "null")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _encryption(attributes: Mapping[Any, str]) -> str | None:
    if attributes.get("KmsMasterKeyId"):
        return attributes["KmsMasterKeyId"]
    managed = attributes.get("SqsManagedSseEnabled")
    return None if managed is None else "SSE-SQS" if managed == "true" else ""
