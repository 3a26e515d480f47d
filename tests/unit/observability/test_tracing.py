"""Spans, their links and their attributes."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    ABSENT,
    IP,
    SESSION_ID,
    SOURCE,
    USER_AGENT,
    FakeAcceptanceStore,
    FakeQueue,
    World,
    body,
    clock,
    open_world,
    policy,
    received_message,
    settings,
)
from worker.errors import AWSThrottledError, AWSUnavailableError
from worker.observability.tracing import OpenTelemetry
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository.writes import BatchInserts

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
XRAY = f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]};Parent={SPAN_ID};Sampled=1"
QUEUE = {
    "messaging.system": "aws_sqs",
    "messaging.destination.name": SOURCE,
    "aws.sqs.queue.url": f"https://sqs.eu-west-1.amazonaws.com/123456789012/{SOURCE}",
}


def attribute(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


class Recorded:
    """Tracing with all finished spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OpenTelemetry(provider)

    def __iter__(self) -> Iterator[ReadableSpan]:
        return iter(self._exporter.get_finished_spans())

    def of(self, operation: str) -> list[ReadableSpan]:
        """Return the spans of an operation."""
        return [span for span in self if span.name.partition(" ")[0] == operation]


def linked(span: ReadableSpan) -> list[tuple[str, str]]:
    return [(f"{x.context.trace_id:032x}", f"{x.context.span_id:016x}") for x in span.links]


def context(span: ReadableSpan) -> tuple[str, str]:
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def held(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def carried(world: World, spans: Recorded, **until: int) -> None:
    """Run the pipeline until its books say so, then drain."""
    repository = world.repository()
    await repository.publish_policy(policy())
    repository.trace(spans.tracing)
    pipeline = assemble(
        (world.source, world.dead_letters),
        repository,
        settings(),
        metrics=Metrics(),
        now=clock,
        tracing=spans.tracing,
    )
    running = asyncio.create_task(pipeline.run())
    async with asyncio.timeout(1000):
        while not pipeline.metrics.accounting.figures().items() >= until.items():  # noqa: ASYNC110 - virtual
            await asyncio.sleep(0.05)
    pipeline.stopping.set()
    await running
    assert spans.tracing.held == {}


@simulated
async def test_each_message_has_its_own_trace_with_a_link_to_the_producer() -> None:
    world, spans = await open_world(), Recorded()
    attributes = {"traceparent": attribute(TRACEPARENT), "tracestate": attribute("vendor=7")}
    await world.push(body(1), attributes=attributes)
    await world.push(body(2))
    await carried(world, spans, recorded=2)
    by_event = {held(span)["aup.event_id"]: span for span in spans.of("process")}
    span = by_event["event-1"]
    assert (span.kind, span.parent, span.name) == (SpanKind.CONSUMER, None, f"process {SOURCE}")
    assert linked(span) == [(TRACE_ID, SPAN_ID)]
    assert span.links[0].context.trace_state.get("vendor") == "7"
    assert linked(by_event["event-2"]) == []
    assert (
        held(span).items()
        >= {
            "messaging.system": "aws_sqs",
            "messaging.destination.name": SOURCE,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "aup.outcome": "recorded",
            "aup.receive_count": 1,
        }.items()
    )
    assert held(span)["messaging.message.id"]
    assert span.status.status_code is StatusCode.UNSET


@simulated
async def test_span_of_a_call_links_to_its_messages_and_counts_them() -> None:
    world, spans = await open_world(), Recorded()
    await world.push(*map(body, range(10)), attributes={"traceparent": attribute(TRACEPARENT)})
    await carried(world, spans, recorded=10)
    messages = {context(span) for span in spans.of("process")}
    [received] = spans.of("receive")
    assert linked(received) == [(TRACE_ID, SPAN_ID)] * 10
    assert {dict(x.attributes or {})["messaging.message.id"] for x in received.links} == {
        held(span)["messaging.message.id"] for span in spans.of("process")
    }
    [written] = spans.of("BatchExecuteStatement")
    [deleted] = spans.of("delete")
    assert set(linked(written)) == set(linked(deleted)) == messages
    assert [span.kind for span in (received, written, deleted)] == [SpanKind.CLIENT] * 3
    assert [span.parent for span in (received, written, deleted)] == [None] * 3
    assert held(written) == {
        "db.system.name": "aws.dynamodb",
        "db.operation.name": "BatchExecuteStatement",
        "db.collection.name": "aup-acceptances",
        "db.operation.batch.size": 10,
    }
    for span, kind in ((received, "receive"), (deleted, "settle")):
        assert held(span)["messaging.batch.message_count"] == 10
        assert held(span)["messaging.operation.type"] == kind
    # The version, and that it has no text in another language.
    reads = spans.of("GetItem")
    assert [read.name for read in reads] == ["GetItem aup-policies"] * 2
    assert all(read.parent is not None for read in reads), "children of the message"


@simulated
async def test_span_of_a_dead_letter_has_the_reason_and_links_to_the_producer() -> None:
    world, spans = await open_world(), Recorded()
    await world.push(body(1, user_id=ABSENT), attributes={"traceparent": attribute(TRACEPARENT)})
    await carried(world, spans, dead_lettered=1)
    [span] = spans.of("process")
    assert held(span).items() >= {"aup.outcome": "dead", "error.type": "invalid"}.items()
    assert span.status.status_code is StatusCode.ERROR
    [sent] = spans.of("send")
    assert linked(sent) == [(TRACE_ID, SPAN_ID)]
    [dead_letter] = await world.dead_letters.receive(
        1, wait_seconds=0, visibility_timeout_seconds=9
    )
    assert dead_letter.attributes["traceparent"] == attribute(TRACEPARENT)


@simulated
async def test_spans_contain_no_personal_data() -> None:
    world, spans = await open_world(), Recorded()
    await world.push(body(1), body(1), body(2, user_id=""), body(3)[:-9], body(4, version="no"))
    await carried(world, spans, recorded=1, duplicates=1, dead_lettered=3)
    text = "".join(span.to_json() for span in spans)
    assert "event-1" in text
    for secret in (IP, USER_AGENT, SESSION_ID, "u-1", "accepted_at", "clickwrap"):
        assert secret not in text


async def test_span_of_a_failed_call_or_entry_has_the_error_type() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    queue = spans.tracing.queue(fake)
    fake.on_delete = lambda _: AWSThrottledError(f"slow down, {IP}")
    with pytest.raises(AWSThrottledError):
        await queue.delete([received_message()])
    fake.on_change = lambda entries: [None] * (len(entries) - 1) + [AWSUnavailableError(IP)]
    await queue.change_visibility([(received_message(1), 0.0), (received_message(2), 0.0)])
    whole, part = spans
    assert held(whole)["error.type"] == "AWSThrottledError"
    assert held(part)["error.type"] == "AWSUnavailableError"
    assert held(part).items() >= {"aup.failed_count": 1, "messaging.batch.message_count": 2}.items()
    for span in (whole, part):
        assert span.status.status_code is StatusCode.ERROR
        assert IP not in span.to_json()
        assert span.events == ()


async def test_failed_poll_has_a_span_and_empty_poll_has_none() -> None:
    spans = Recorded()
    fake = FakeQueue()
    responses: list[Any] = [[], AWSUnavailableError("gone")]

    async def receive(*_: object, **__: object) -> list[Any]:
        response = responses.pop(0)
        if isinstance(response, Exception):
            raise response
        return list(response)

    fake.receive = receive  # type: ignore[method-assign] # scripted
    queue = spans.tracing.queue(fake)
    assert await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=9) == []
    assert list(spans) == []
    with pytest.raises(AWSUnavailableError):
        await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=9)
    [span] = spans
    assert held(span)["error.type"] == "AWSUnavailableError"


def _process(pipeline: Pipeline) -> Any:
    return inspect.getclosurevars(pipeline._receiver._accept).nonlocals["process"]


async def test_without_tracing_the_pipeline_calls_the_very_same_functions() -> None:
    world = await open_world()
    repository = world.repository()
    repository.check_owner()
    pipeline = assemble(
        (world.source, world.dead_letters), repository, settings(), metrics=Metrics(), now=clock
    )
    processor = _process(pipeline).__self__
    assert _process(pipeline) == processor.process
    assert pipeline._receiver._queue is world.source
    assert processor._recorder._store is repository
    assert inspect.unwrap(pipeline._settler._deletes._flush) == world.source.delete
    assert inspect.unwrap(pipeline._settler._sends._flush) == world.dead_letters.send
    assert inspect.unwrap(pipeline.leases._extend) == world.source.change_visibility
    assert isinstance(repository._acceptances._insert, BatchInserts)
    tracing = Recorded().tracing
    other = assemble(
        (world.source, world.dead_letters),
        FakeAcceptanceStore(),
        settings(),
        metrics=Metrics(),
        now=clock,
        tracing=tracing,
    )
    assert not hasattr(_process(other), "__self__"), "with it, it does not"


def test_command_line_and_service_do_not_import_opentelemetry() -> None:
    code = (
        "import sys, worker.cli.app, worker.service;"
        "sys.exit(any(name.partition('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - ours
