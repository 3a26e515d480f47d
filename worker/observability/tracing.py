"""Spans of messages and of calls to AWS.

Names and attributes follow the OpenTelemetry semantic conventions for messaging, Amazon SQS,
database calls and Amazon DynamoDB. The `event_id` is the only field of a message in a span.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TracerProvider

from worker import __version__
from worker.aws.calls import Calling
from worker.aws.sqs import MessageQueue, queue_name
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.domain.outcome import Outcome, OutcomeKind
from worker.errors import AWSError
from worker.observability.trace_context import NO_PARENT, inject, producer_links
from worker.pipeline.in_flight import Process
from worker.pipeline.lease import Lease
from worker.pipeline.slots import Slot
from worker.repository.writes import InsertResult, Inserts, Item

Attributes = dict[str, str | int]
ResultsT = TypeVar("ResultsT", bound=Sequence[object])


class OpenTelemetry:
    """Tracing of messages and calls.

    Each message has its own trace, whose span links to the span of the producer. A call serves
    many messages, so its span has its own trace too and links to the spans of those messages.

    Args:
        provider: creates, samples and exports the spans.

    Attributes:
        held: lease and span of each message in flight, by receipt handle.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("aup-worker", __version__)
        self.held: dict[str, tuple[Lease, SpanContext]] = {}

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Trace the calls to a queue."""
        return _TracedQueue(queue, self)

    def publishing(self, queue: MessageQueue) -> MessageQueue:
        """Trace the calls of a producer, and add the context of the span to every message."""
        return _PublishingQueue(queue, self)

    def inserts(self, inserts: Inserts, table_name: str) -> Inserts:
        """Trace the inserts into a table."""
        return _TracedInserts(inserts, table_name, self)

    def calling(self, calling: Calling) -> Calling:
        """Trace other calls to tables, as children of the current span."""

        @asynccontextmanager
        async def traced(
            operation: str,
            timeout_seconds: float,
            calls: Counter[str] | None = None,
            *,
            target: str = "",
        ) -> AsyncIterator[None]:
            name, attributes = f"{operation} {target}", _table_attributes(operation, target)
            with self.span(name, SpanKind.CLIENT, attributes, parent=None):
                async with calling(operation, timeout_seconds, calls, target=target):
                    yield

        return traced

    def handler(self, process: Process, source: MessageQueue) -> Process:
        """Trace each message of a queue from its receipt to its outcome."""
        shared = _queue_attributes(source.url, "process", "process")
        name = f"process {queue_name(source.url)}"

        async def traced(message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
            attributes: Attributes = {
                **shared,
                "messaging.message.id": message.message_id,
                "aup.receive_count": message.receive_count,
            }
            with self.span(name, SpanKind.CONSUMER, attributes, producer_links([message])) as span:
                self.held[message.receipt_handle] = lease, span.get_span_context()
                # Each message has its own task, and so its own context.
                attach(trace.set_span_in_context(span))
                try:
                    outcome = await process(message, lease, slot)
                finally:
                    self.held.pop(message.receipt_handle, None)
                _set_outcome(span, lease, outcome)
            return outcome

        return traced

    @contextmanager
    def span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        links: Sequence[Link] = (),
        *,
        parent: Context | None = NO_PARENT,
        started_at: int | None = None,
    ) -> Iterator[Span]:
        """Start a span and end it with the block; an exception sets its error.

        Args:
            name: name of the span, of low cardinality.
            kind: kind of the span.
            attributes: attributes without personal data.
            links: links to other spans.
            parent: context of the parent; None for the current span.
            started_at: start in Unix nanoseconds; now by default.
        """
        span = self._tracer.start_span(
            name, parent, kind, attributes, links, start_time=started_at, record_exception=False
        )
        try:
            yield span
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()


class _TracedQueue:
    """Queue with traced calls."""

    def __init__(self, queue: MessageQueue, tracing: OpenTelemetry) -> None:
        self.url = queue.url
        self._queue = queue
        self._tracing = tracing
        self._name = queue_name(queue.url)

    @property
    def message_max_bytes(self) -> int:
        """Limit of a message's body and attributes together, in bytes."""
        return self._queue.message_max_bytes

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Receive messages; a poll without messages has no span."""
        started_at = time.time_ns()
        try:
            messages = await self._queue.receive(
                max_messages,
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=visibility_timeout_seconds,
            )
        except AWSError:
            with self._span("receive", "receive", started_at=started_at):
                raise
        if messages:
            links = producer_links(messages)
            with self._span("receive", "receive", len(messages), links, started_at=started_at):
                pass
        return messages

    async def delete(self, messages: Sequence[ReceivedMessage], /) -> list[AWSError | None]:
        """Delete messages."""
        with self._span("delete", "settle", len(messages), self._held(messages)) as span:
            return _with_failures(span, await self._queue.delete(messages))

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]], /
    ) -> list[AWSError | None]:
        """Change the visibility timeout of messages."""
        links = self._held([message for message, _ in changes])
        with self._span("change_visibility", "", len(changes), links) as span:
            return _with_failures(span, await self._queue.change_visibility(changes))

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send messages with the trace context that they have."""
        with self._span("send", "send", len(messages), producer_links(messages)) as span:
            return _with_failures(span, await self._queue.send(messages))

    def _held(self, messages: Sequence[ReceivedMessage]) -> list[Link]:
        held = self._tracing.held
        return [
            Link(held[each.receipt_handle][1]) for each in messages if each.receipt_handle in held
        ]

    @contextmanager
    def _span(
        self,
        operation: str,
        operation_type: str,
        count: int | None = None,
        links: Sequence[Link] = (),
        kind: SpanKind = SpanKind.CLIENT,
        started_at: int | None = None,
    ) -> Iterator[Span]:
        attributes = _queue_attributes(self.url, operation, operation_type)
        if count is not None:
            attributes["messaging.batch.message_count"] = count
        name = f"{operation} {self._name}"
        with self._tracing.span(name, kind, attributes, links, started_at=started_at) as span:
            yield span


class _PublishingQueue(_TracedQueue):
    """Queue with traced calls, whose sends add the context of their span to each message."""

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send messages with the context of the span of their batch."""
        with self._span("send", "send", len(messages), (), SpanKind.PRODUCER) as span:
            injected = inject(messages, span, self.message_max_bytes)
            return _with_failures(span, await self._queue.send(injected))


class _TracedInserts:
    """Inserts with traced calls."""

    def __init__(self, inserts: Inserts, table_name: str, tracing: OpenTelemetry) -> None:
        self.max_items = inserts.max_items
        self.operation = inserts.operation
        self._inserts = inserts
        self._name = f"{inserts.operation} {table_name}"
        self._attributes = _table_attributes(inserts.operation, table_name)
        self._tracing = tracing

    async def __call__(self, items: Sequence[Item], /) -> Sequence[InsertResult]:
        """Insert items."""
        attributes = self._attributes
        if len(items) > 1:  # the convention excludes batches of one
            attributes = {**attributes, "db.operation.batch.size": len(items)}
        events = {item["event_id"] for item in items}
        held = self._tracing.held.values()
        links = [Link(context) for lease, context in held if lease.event_id in events]
        with self._tracing.span(self._name, SpanKind.CLIENT, attributes, links) as span:
            return _with_failures(span, await self._inserts(items))


def _queue_attributes(url: str, operation: str, operation_type: str) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": operation,
        "messaging.destination.name": queue_name(url),
        "aws.sqs.queue.url": url,
        "server.address": urlsplit(url).hostname or "",
    }
    if operation_type:
        attributes["messaging.operation.type"] = operation_type
    return attributes


def _table_attributes(operation: str, table_name: str) -> Attributes:
    return {
        "db.system.name": "aws.dynamodb",
        "db.operation.name": operation,
        "db.collection.name": table_name,
    }


def _fail(span: Span, kind: str) -> None:
    # Without a description: an error message of AWS may quote its input.
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _with_failures(span: Span, results: ResultsT) -> ResultsT:
    """Set the failures of a batch on its span, and return the results."""
    failures = [each for each in results if isinstance(each, AWSError)]
    if failures:
        span.set_attribute("aup.failed_count", len(failures))
        _fail(span, type(failures[0]).__name__)
    return results


def _set_outcome(span: Span, lease: Lease, outcome: Outcome) -> None:
    span.set_attribute("aup.outcome", outcome.kind.value)
    if lease.event_id is not None:
        span.set_attribute("aup.event_id", lease.event_id)
    if outcome.kind is OutcomeKind.DEAD_LETTERED and outcome.reason is not None:
        _fail(span, outcome.reason.value)
