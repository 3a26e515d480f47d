"""In-memory simulation of an aiobotocore SQS client."""
# ruff: noqa: N803 - AWS's parameter names

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from tests.simulation.aws_errors import metadata, sqs_error
from tests.simulation.simulated_network import SimulatedNetwork
from tests.simulation.simulated_queue import MAX_VISIBILITY_SECONDS, SimulatedQueue
from tests.simulation.sqs_messages import attributes_md5, size
from tests.simulation.virtual_clock import START

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tests.simulation.faults import Faults

_ACCOUNT = "000000000000"
_REGION = "eu-west-1"
_MAX_ENTRIES = 10
_MAX_BYTES = 1024 * 1024
_MAX_ATTRIBUTES = 10
_MAX_WAIT_SECONDS = 20
_MAX_DELAY_SECONDS = 900
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
# Characters of XML 1.0, as SQS requires.
_BODY = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


class SimulatedSQS:
    """SQS API with queues in memory and injected faults.

    Args:
        faults: Faults to inject.

    Attributes:
        date: Returns the Date header of a receive response.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.date = _date
        self.queues: dict[str, SimulatedQueue] = {}
        self._network = SimulatedNetwork(
            "sqs",
            faults,
            lambda operation, code, status: sqs_error(operation, code, status=status),
            ("RequestThrottled", "OverLimit", "KmsThrottled"),
        )

    def queue(self, name: str) -> SimulatedQueue:
        """Return a queue by name, for inspection."""
        return next(queue for queue in self.queues.values() if queue.name == name)

    async def create_queue(
        self, *, QueueName: str, Attributes: Mapping[str, str] | None = None, **_tags: Any
    ) -> dict[str, Any]:
        effect = partial(self._create, QueueName, Attributes or {})
        return await self._network.call("CreateQueue", effect)

    async def get_queue_url(self, *, QueueName: str) -> dict[str, Any]:
        url = _url(QueueName)
        effect = partial(self._queue, "GetQueueUrl", url)
        await self._network.call("GetQueueUrl", effect)
        return _response(QueueUrl=url)

    async def get_queue_attributes(
        self, *, QueueUrl: str, AttributeNames: Sequence[str] = ()
    ) -> dict[str, Any]:
        effect = partial(self._attributes, QueueUrl, AttributeNames)
        return await self._network.call("GetQueueAttributes", effect)

    async def set_queue_attributes(
        self, *, QueueUrl: str, Attributes: Mapping[str, str]
    ) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            self._queue("SetQueueAttributes", QueueUrl).configure(Attributes)
            return _response()

        return await self._network.call("SetQueueAttributes", effect)

    async def send_message(self, *, QueueUrl: str, **entry: Any) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            queue = self._queue("SendMessage", QueueUrl)
            return _response(**_send(queue, "SendMessage", **entry))

        return await self._network.call("SendMessage", effect)

    async def send_message_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        effect = partial(self._send_batch, QueueUrl, Entries)
        return await self._network.call("SendMessageBatch", effect)

    async def receive_message(
        self,
        *,
        QueueUrl: str,
        MaxNumberOfMessages: int = 1,
        WaitTimeSeconds: int | None = None,
        VisibilityTimeout: int | None = None,
        AttributeNames: Collection[str] = (),
        MessageSystemAttributeNames: Collection[str] = (),
        MessageAttributeNames: Collection[str] = (),
    ) -> dict[str, Any]:
        operation = "ReceiveMessage"
        _check(operation, "MaxNumberOfMessages", MaxNumberOfMessages, 1, _MAX_ENTRIES)
        _check(operation, "WaitTimeSeconds", WaitTimeSeconds, 0, _MAX_WAIT_SECONDS)
        _check(operation, "VisibilityTimeout", VisibilityTimeout, 0, MAX_VISIBILITY_SECONDS)
        system = (*AttributeNames, *MessageSystemAttributeNames)

        def receive() -> list[dict[str, Any]]:
            queue = self._queue(operation, QueueUrl)
            surplus = self.faults.happens("surplus_messages")
            limit = MaxNumberOfMessages + (self.faults.random.randrange(1, 15) if surplus else 0)
            return queue.receive(limit, VisibilityTimeout, MessageAttributeNames, system)

        messages = await self._poll(operation, QueueUrl, WaitTimeSeconds, receive)
        response = _response(Messages=messages) if messages else _response()
        response["ResponseMetadata"]["HTTPHeaders"] = {"date": self.date()}
        return self._network.delivered(operation, response)

    async def delete_message(self, *, QueueUrl: str, ReceiptHandle: str) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            self._queue("DeleteMessage", QueueUrl).delete("DeleteMessage", ReceiptHandle)
            return _response()

        return await self._network.call("DeleteMessage", effect)

    async def delete_message_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        operation = "DeleteMessageBatch"

        def effect() -> dict[str, Any]:
            queue = self._queue(operation, QueueUrl)
            return self._each(operation, Entries, lambda entry: _delete(queue, operation, **entry))

        return await self._network.call(operation, effect)

    async def change_message_visibility(
        self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int
    ) -> dict[str, Any]:
        operation = "ChangeMessageVisibility"

        def effect() -> dict[str, Any]:
            queue = self._queue(operation, QueueUrl)
            _change_visibility(queue, operation, ReceiptHandle, VisibilityTimeout)
            return _response()

        return await self._network.call(operation, effect)

    async def change_message_visibility_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        operation = "ChangeMessageVisibilityBatch"

        def effect() -> dict[str, Any]:
            queue = self._queue(operation, QueueUrl)
            return self._each(
                operation, Entries, lambda entry: _change_visibility(queue, operation, **entry)
            )

        return await self._network.call(operation, effect)

    async def _poll(
        self,
        operation: str,
        url: str,
        wait_seconds: int | None,
        receive: Callable[[], list[dict[str, Any]]],
    ) -> list[dict[str, Any]]:
        outcome = self.faults.outcome("sqs")
        await self._network.send(operation, outcome, receive)
        queue = self._queue(operation, url)
        loop = asyncio.get_running_loop()
        seconds = queue.wait_seconds if wait_seconds is None else wait_seconds
        deadline = loop.time() + seconds
        # Received before the last await: a poll cancelled there leaves its messages in flight.
        while not (messages := receive()) and loop.time() < deadline:
            try:
                await queue.wait_for_arrival(deadline)
            except asyncio.CancelledError:
                self._network.apply_later(receive)
                raise
        await self._network.respond(operation, outcome)
        return messages

    def _create(self, name: str, attributes: Mapping[str, str]) -> dict[str, Any]:
        url = _url(name)
        known = self.queues.get(url)
        if known is None:
            arn = f"arn:aws:sqs:{_REGION}:{_ACCOUNT}:{name}"
            known = SimulatedQueue(name, url, arn, self.faults, self._queue_by_arn)
            known.configure(attributes)
            self.queues[url] = known
        elif attributes.items() - known.attributes.items():
            raise sqs_error("CreateQueue", "QueueNameExists")
        return _response(QueueUrl=url)

    def _queue(self, operation: str, url: str) -> SimulatedQueue:
        queue = self.queues.get(url)
        if queue is None or self.faults.is_missing(queue.name):
            message = "The specified queue does not exist."
            raise sqs_error(operation, "QueueDoesNotExist", message)
        return queue

    def _queue_by_arn(self, arn: str) -> SimulatedQueue | None:
        known = (queue for queue in self.queues.values() if queue.arn == arn)
        return next((queue for queue in known if not self.faults.is_missing(queue.name)), None)

    def _attributes(self, url: str, names: Sequence[str]) -> dict[str, Any]:
        queue = self._queue("GetQueueAttributes", url)
        known = {**queue.attributes, **queue.counts(), "QueueArn": queue.arn}
        if "All" in names:
            return _response(Attributes=known)
        wanted = {name: known[name] for name in names if name in known}
        return _response(Attributes=wanted) if wanted else _response()

    def _send_batch(self, url: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        operation = "SendMessageBatch"
        queue = self._queue(operation, url)
        total = sum(
            size(entry["MessageBody"], entry.get("MessageAttributes", {})) for entry in entries
        )
        if total > _MAX_BYTES:
            raise sqs_error(operation, "BatchRequestTooLong")
        return self._each(operation, entries, lambda entry: _send(queue, operation, **entry))

    def _each(
        self,
        operation: str,
        entries: Sequence[Mapping[str, Any]],
        effect: Callable[[Mapping[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        _check_entries(operation, entries)
        successful: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for entry in entries:
            request = dict(entry)
            entry_id = request.pop("Id")
            if self.faults.happens("failed_entry"):
                failed.append(_failed(entry_id, "InternalError", sender=False))
                continue
            try:
                successful.append({"Id": entry_id, **effect(request)})
            except ClientError as error:
                code = error.response["Error"].get("Code", "")
                # Entries contain the modeled name, without the prefix of errors of whole calls.
                failed.append(_failed(entry_id, code.rpartition(".")[2], sender=True))
        response = _response()
        if successful:
            response["Successful"] = successful
        if failed:
            response["Failed"] = failed
        return response


def _date() -> str:
    return format_datetime(
        START + timedelta(seconds=asyncio.get_running_loop().time()), usegmt=True
    )


def _url(name: str) -> str:
    return f"https://sqs.{_REGION}.amazonaws.com/{_ACCOUNT}/{name}"


def _response(**members: Any) -> dict[str, Any]:
    return {**members, "ResponseMetadata": metadata()}


def _failed(entry_id: str, code: str, *, sender: bool) -> dict[str, Any]:
    return {"Id": entry_id, "SenderFault": sender, "Code": code, "Message": code}


def _check(operation: str, name: str, value: int | None, minimum: int, limit: int) -> None:
    if value is not None and not minimum <= value <= limit:
        raise sqs_error(
            operation,
            "InvalidParameterValueException",
            f"Value {value} for parameter {name} is invalid. "
            f"Reason: Must be between {minimum} and {limit}, if provided.",
        )


def _check_entries(operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
    if not entries:
        raise sqs_error(operation, "EmptyBatchRequest")
    if len(entries) > _MAX_ENTRIES:
        raise sqs_error(operation, "TooManyEntriesInBatchRequest")
    if len({entry["Id"] for entry in entries}) < len(entries):
        raise sqs_error(operation, "BatchEntryIdsNotDistinct")
    if not all(_ENTRY_ID.fullmatch(entry["Id"]) for entry in entries):
        raise sqs_error(operation, "InvalidBatchEntryId")


def _send(
    queue: SimulatedQueue,
    operation: str,
    *,
    MessageBody: str,
    MessageAttributes: Mapping[str, Any] | None = None,
    MessageSystemAttributes: Mapping[str, Any] | None = None,
    DelaySeconds: int | None = None,
    MessageGroupId: str | None = None,
) -> dict[str, Any]:
    attributes = MessageAttributes or {}
    _check(operation, "DelaySeconds", DelaySeconds, 0, _MAX_DELAY_SECONDS)
    _check_content(queue, operation, MessageBody, attributes)
    system = {
        name: attribute["StringValue"]
        for name, attribute in (MessageSystemAttributes or {}).items()
    }
    if MessageGroupId is not None:
        system["MessageGroupId"] = MessageGroupId
    message = queue.send(MessageBody, attributes, system, DelaySeconds)
    response = {"MessageId": message.message_id, "MD5OfMessageBody": message.body_md5}
    if attributes:
        response["MD5OfMessageAttributes"] = attributes_md5(attributes)
    return response


def _check_content(
    queue: SimulatedQueue, operation: str, body: str, attributes: Mapping[str, Any]
) -> None:
    if not body:
        raise sqs_error(operation, "MissingParameter", "MessageBody is missing")
    if not _BODY.fullmatch(body):
        raise sqs_error(operation, "InvalidMessageContents")
    if len(attributes) > _MAX_ATTRIBUTES:
        raise sqs_error(
            operation,
            "InvalidParameterValueException",
            f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [10].",
        )
    if size(body, attributes) > int(queue.attributes["MaximumMessageSize"]):
        raise sqs_error(
            operation,
            "InvalidParameterValueException",
            "One or more parameters are invalid. Reason: Message must be shorter than "
            f"{queue.attributes['MaximumMessageSize']} bytes.",
        )


def _delete(queue: SimulatedQueue, operation: str, *, ReceiptHandle: str) -> dict[str, Any]:
    queue.delete(operation, ReceiptHandle)
    return {}


def _change_visibility(
    queue: SimulatedQueue, operation: str, ReceiptHandle: str, VisibilityTimeout: int
) -> dict[str, Any]:
    _check(operation, "VisibilityTimeout", VisibilityTimeout, 0, MAX_VISIBILITY_SECONDS)
    queue.change_visibility(operation, ReceiptHandle, VisibilityTimeout)
    return {}
