"""Traces by OpenTelemetry, which is imported nowhere else: a span a message, a span a call.

Names and attributes: OpenTelemetry semantic conventions for messaging, Amazon SQS, database calls
and Amazon DynamoDB. Of what a message states, a span holds the `event_id` and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.context import Context, attach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker import __version__
from worker.aws.calls import Calling
from worker.aws.sqs import MessageQueue
from worker.domain.message import (
    MESSAGE_MAX_BYTES,
    Outcome,
    OutcomeKind,
    OutgoingMessage,
    ReceivedMessage,
)
from worker.errors import AWSError
from worker.pipeline.in_flight import Process
from worker.pipeline.lease import Lease
from worker.pipeline.slots import Slot
from worker.repository.writes import InsertResult, Inserts, Item

_FLUSH_SECONDS: Final = 2.0
_TELL_SECONDS: Final = 60.0
_TOLD_MAX_CHARACTERS: Final = 300
# W3C Trace Context, "tracestate Limits": what is longer need not be passed on.
_CONTEXT_MAX_CHARACTERS: Final = 512
_W3C: Final = TraceContextTextMapPropagator()
# AWS X-Ray developer guide, "Tracing header".
_XRAY_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_PARENT: Final = re.compile(r"[0-9a-f]{16}")
_NO_PARENT: Final = Context()

Attributes = dict[str, str | int]
ResultsT = TypeVar("ResultsT", bound=Sequence[object])


class OpenTelemetry:
    """Follow messages and calls.

    Each message is a trace of its own, whose span links to the producer's. A call serves many
    messages: its span is a trace of its own too, and links to the spans of those messages.

    Args:
        provider: makes, samples and exports the spans.

    Attributes:
        held: the messages that are held and their spans, by receipt handle.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("aup-worker", __version__)
        self.held: dict[str, tuple[Lease, SpanContext]] = {}

    def queue(self, queue: MessageQueue) -> MessageQueue:
        """Follow the calls to a queue."""
        return _TracedQueue(queue, self)

    def publishing(self, queue: MessageQueue) -> MessageQueue:
        """Follow what is sent to a queue, and write into every message where it comes from."""
        return _PublishingQueue(queue, self)

    def inserts(self, inserts: Inserts, table_name: str) -> Inserts:
        """Follow the inserts into a table."""
        return _TracedInserts(inserts, table_name, self)

    def calling(self, calling: Calling) -> Calling:
        """Follow the other calls to tables, as part of what makes them."""

        @asynccontextmanager
        async def traced(
            operation: str,
            timeout_seconds: float,
            calls: Counter[str] | None = None,
            *,
            target: str = "",
        ) -> AsyncIterator[None]:
            name, attributes = f"{operation} {target}", _of_table(operation, target)
            with self.span(name, SpanKind.CLIENT, attributes, parent=None):
                async with calling(operation, timeout_seconds, calls, target=target):
                    yield

        return traced

    def handler(self, process: Process, source: MessageQueue) -> Process:
        """Follow each message of a queue from its receipt to its fate."""
        shared = _of_queue(source.url, "process", "process")
        name = f"process {_name(source.url)}"

        async def traced(message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
            attributes: Attributes = {
                **shared,
                "messaging.message.id": message.message_id,
                "aup.receive_count": message.receive_count,
            }
            with self.span(name, SpanKind.CONSUMER, attributes, _links([message])) as span:
                self.held[message.receipt_handle] = lease, span.get_span_context()
                # The task is this message's own, and so is its context.
                attach(trace.set_span_in_context(span))
                try:
                    outcome = await process(message, lease, slot)
                finally:
                    self.held.pop(message.receipt_handle, None)
                _tell_outcome(span, lease, outcome)
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
        parent: Context | None = _NO_PARENT,
        began_at: int | None = None,
    ) -> Iterator[Span]:
        """Make a span as long as the block; what the block raises is its error.

        Args:
            name: of few different ones.
            kind: as OpenTelemetry has it.
            attributes: nothing private.
            links: to spans elsewhere.
            parent: None for the span that is current.
            began_at: in nanoseconds since 1970; now, if absent.
        """
        span = self._tracer.start_span(
            name, parent, kind, attributes, links, start_time=began_at, record_exception=False
        )
        try:
            yield span
        except BaseException as error:
            _fail(span, type(error).__name__)
            raise
        finally:
            span.end()


class _TracedQueue:
    """A queue whose calls are followed."""

    def __init__(self, queue: MessageQueue, tracing: OpenTelemetry) -> None:
        self.url = queue.url
        self._queue = queue
        self._tracing = tracing
        self._name = _name(queue.url)

    @property
    def message_max_bytes(self) -> int:
        """Limit of a message's body and attributes together."""
        return self._queue.message_max_bytes

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        """Receive; a poll that finds nothing leaves no span."""
        began_at = time.time_ns()
        name, attributes = f"receive {self._name}", _of_queue(self.url, "receive", "receive")
        try:
            messages = await self._queue.receive(
                max_messages,
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=visibility_timeout_seconds,
            )
        except AWSError as error:
            with self._tracing.span(name, SpanKind.CLIENT, attributes, began_at=began_at) as span:
                _fail(span, type(error).__name__)
            raise
        if messages:
            attributes["messaging.batch.message_count"] = len(messages)
            links = _links(messages)
            with self._tracing.span(name, SpanKind.CLIENT, attributes, links, began_at=began_at):
                pass
        return messages

    async def delete(self, messages: Sequence[ReceivedMessage], /) -> list[AWSError | None]:
        """Delete."""
        with self._batch("delete", "settle", len(messages), self._held(messages)) as span:
            return _judged(span, await self._queue.delete(messages))

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]], /
    ) -> list[AWSError | None]:
        """Hand back, or hold on to."""
        links = self._held([message for message, _ in changes])
        with self._batch("change_visibility", "", len(changes), links) as span:
            return _judged(span, await self._queue.change_visibility(changes))

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send messages on as they are; they keep where they came from."""
        with self._batch("send", "send", len(messages), _links(messages)) as span:
            return _judged(span, await self._queue.send(messages))

    def _held(self, messages: Sequence[ReceivedMessage]) -> list[Link]:
        held = self._tracing.held
        return [
            Link(held[each.receipt_handle][1]) for each in messages if each.receipt_handle in held
        ]

    @contextmanager
    def _batch(
        self,
        operation: str,
        kind: str,
        count: int,
        links: Sequence[Link],
        span_kind: SpanKind = SpanKind.CLIENT,
    ) -> Iterator[Span]:
        attributes = _of_queue(self.url, operation, kind)
        attributes["messaging.batch.message_count"] = count
        name = f"{operation} {self._name}"
        with self._tracing.span(name, span_kind, attributes, links) as span:
            yield span


class _PublishingQueue(_TracedQueue):
    """A queue of which every message that is sent names the span that sent it."""

    async def send(self, messages: Sequence[OutgoingMessage], /) -> list[AWSError | None]:
        """Send, each message with the context of the span of its batch."""
        with self._batch("send", "send", len(messages), (), SpanKind.PRODUCER) as span:
            marked = _originating(messages, span, self.message_max_bytes)
            return _judged(span, await self._queue.send(marked))


class _TracedInserts:
    """Inserts whose calls are followed."""

    def __init__(self, inserts: Inserts, table_name: str, tracing: OpenTelemetry) -> None:
        self.max_items = inserts.max_items
        self.operation = inserts.operation
        self._inserts = inserts
        self._name = f"{inserts.operation} {table_name}"
        self._attributes = _of_table(inserts.operation, table_name)
        self._tracing = tracing

    async def __call__(self, items: Sequence[Item], /) -> Sequence[InsertResult]:
        """Insert."""
        attributes = self._attributes
        if len(items) > 1:  # one is no batch, says the convention
            attributes = {**attributes, "db.operation.batch.size": len(items)}
        events = {item["event_id"] for item in items}
        held = self._tracing.held.values()
        links = [Link(context) for lease, context in held if lease.event_id in events]
        with self._tracing.span(self._name, SpanKind.CLIENT, attributes, links) as span:
            return _judged(span, await self._inserts(items))


def _name(url: str) -> str:
    return url.rpartition("/")[2]


def _of_queue(url: str, operation: str, kind: str) -> Attributes:
    attributes: Attributes = {
        "messaging.system": "aws_sqs",
        "messaging.operation.name": operation,
        "messaging.destination.name": _name(url),
        "aws.sqs.queue.url": url,
        "server.address": urlsplit(url).hostname or "",
    }
    if kind:
        attributes["messaging.operation.type"] = kind
    return attributes


def _of_table(operation: str, table_name: str) -> Attributes:
    return {
        "db.system.name": "aws.dynamodb",
        "db.operation.name": operation,
        "db.collection.name": table_name,
    }


def _fail(span: Span, kind: str) -> None:
    # Without a description: AWS's words may quote what it was given.
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def _judged(span: Span, results: ResultsT) -> ResultsT:
    """Tell which entries of a batch failed, and hand the results on."""
    failures = [each for each in results if isinstance(each, AWSError)]
    if failures:
        span.set_attribute("aup.failed_count", len(failures))
        _fail(span, type(failures[0]).__name__)
    return results


def _tell_outcome(span: Span, lease: Lease, outcome: Outcome) -> None:
    span.set_attribute("aup.outcome", outcome.kind.value)
    if lease.event_id is not None:
        span.set_attribute("aup.event_id", lease.event_id)
    if outcome.kind is OutcomeKind.DEAD_LETTERED and outcome.reason is not None:
        _fail(span, outcome.reason.value)


def _links(messages: Sequence[ReceivedMessage | OutgoingMessage]) -> list[Link]:
    """Link to where messages come from, as far as they say it."""
    links = []
    for message in messages:
        origin = _origin(message)
        if origin is not None and isinstance(message, ReceivedMessage):
            links.append(Link(origin, {"messaging.message.id": message.message_id}))
        elif origin is not None:
            links.append(Link(origin))
    return links


def _origin(message: ReceivedMessage | OutgoingMessage) -> SpanContext | None:
    carrier = {}
    for name in ("traceparent", "tracestate"):
        value = message.attributes.get(name, {}).get("StringValue")
        if value and len(value) <= _CONTEXT_MAX_CHARACTERS:
            carrier[name] = value
    found = trace.get_current_span(_W3C.extract(carrier, _NO_PARENT)).get_span_context()
    return found if found.is_valid else _origin_by_xray(message.trace_header or "")


def _origin_by_xray(header: str) -> SpanContext | None:
    parts = dict(part.strip().partition("=")[::2] for part in header.split(";"))
    root = _XRAY_ROOT.fullmatch(parts.get("Root", ""))
    parent = _XRAY_PARENT.fullmatch(parts.get("Parent", ""))
    if root is None or parent is None:
        return None
    sampled = TraceFlags.SAMPLED if parts.get("Sampled") == "1" else TraceFlags.DEFAULT
    found = SpanContext(
        int(root[1] + root[2], 16),
        int(parent[0], 16),
        is_remote=True,
        trace_flags=TraceFlags(sampled),
    )
    return found if found.is_valid else None


def _originating(
    messages: Sequence[OutgoingMessage], span: Span, max_bytes: int
) -> list[OutgoingMessage]:
    """Write into messages that a span sends them, as far as SQS leaves room for it."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    room = MESSAGE_MAX_BYTES - sum(message.size_bytes for message in messages)
    marked = []
    for message in messages:
        candidate = _carrying(message, carrier)
        more = candidate.size_bytes - message.size_bytes
        fits = more <= room and not candidate.why_refused(max_bytes)
        marked.append(candidate if fits else message)
        room -= more if fits else 0
    return marked


def _carrying(message: OutgoingMessage, carrier: Mapping[str, str]) -> OutgoingMessage:
    if "traceparent" in message.attributes:
        return message
    context = {
        name: {"DataType": "String", "StringValue": value} for name, value in carrier.items()
    }
    return replace(message, attributes={**message.attributes, **context})


@asynccontextmanager
async def opened(tell: Callable[[str], None]) -> AsyncIterator[OpenTelemetry]:
    """Export traces as OpenTelemetry's own variables say, and send what is left at the end.

    Args:
        tell: told in one line, once a minute at most, why spans are not exported.

    Raises:
        ValueError: one of those variables is wrong.
    """
    teller = _Teller(tell)
    # What the exporter's thread logs would else go to stderr in a form of its own.
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [teller], False
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield OpenTelemetry(provider)
    finally:
        await _flushed(provider, teller)


def _resource() -> Resource:
    ours = Resource.create({"service.name": "aup-worker", "service.version": __version__})
    return ours.merge(OTELResourceDetector().detect())  # OTEL_SERVICE_NAME wins


async def _flushed(provider: TracerProvider, teller: _Teller) -> None:
    """Send what is left, for so long as an exit may wait for it."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def close() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # too late: the loop is closed
            loop.call_soon_threadsafe(done.set)

    # No thread of a pool: those are waited for at the exit.
    threading.Thread(target=close, name="traces", daemon=True).start()
    try:
        async with asyncio.timeout(_FLUSH_SECONDS):
            await done.wait()
    except TimeoutError:
        teller.tell(f"the last of them were not taken within {_FLUSH_SECONDS:g} s")


class _Teller(logging.Handler):
    """Tell what the SDK logs, in one line, once a minute at most."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line of the SDK's."""
        self.tell(record.getMessage())

    def tell(self, text: str) -> None:
        """Tell it, unless something was told just now."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _TELL_SECONDS
            self._tell(" ".join(text.split())[:_TOLD_MAX_CHARACTERS])
