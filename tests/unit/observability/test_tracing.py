"""State which spans there are, what they link to, and what they never hold."""

from __future__ import annotations

import asyncio
import inspect
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.simulation.virtual_clock import START, simulated
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
from worker.domain.dead_letter import mark_replayed, original, to_dead_letter
from worker.domain.message import ATTRIBUTES_MAX, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import AWSThrottledError, AWSUnavailableError
from worker.observability.background import traced
from worker.observability.tracing import OpenTelemetry, _resource, _Teller
from worker.pipeline.assembly import Pipeline, assemble
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
    """Keep every span that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = OpenTelemetry(provider)

    def __iter__(self) -> Iterator[ReadableSpan]:
        return iter(self._exporter.get_finished_spans())

    def of(self, operation: str) -> list[ReadableSpan]:
        """Give the spans of an operation."""
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
async def test_a_message_is_a_trace_of_its_own_that_links_to_its_producer() -> None:
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
async def test_calls_link_to_the_messages_they_serve_and_count_them() -> None:
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
    [read] = spans.of("GetItem")
    assert read.name == "GetItem aup-policies"
    assert read.parent is not None, "it is part of the message that needed it"


@simulated
async def test_what_dies_says_why_and_its_letter_links_to_the_producer_too() -> None:
    world, spans = await open_world(), Recorded()
    await world.push(body(1, user_id=ABSENT), attributes={"traceparent": attribute(TRACEPARENT)})
    await carried(world, spans, dead_lettered=1)
    [span] = spans.of("process")
    assert held(span).items() >= {"aup.outcome": "dead", "error.type": "invalid"}.items()
    assert span.status.status_code is StatusCode.ERROR
    [sent] = spans.of("send")
    assert linked(sent) == [(TRACE_ID, SPAN_ID)]
    [letter] = await world.dead_letters.receive(1, wait_seconds=0, visibility_timeout_seconds=9)
    assert letter.attributes["traceparent"] == attribute(TRACEPARENT)


@simulated
async def test_no_span_holds_anything_private() -> None:
    world, spans = await open_world(), Recorded()
    await world.push(body(1), body(1), body(2, user_id=""), body(3)[:-9], body(4, version="no"))
    await carried(world, spans, recorded=1, duplicates=1, dead_lettered=3)
    text = "".join(span.to_json() for span in spans)
    assert "event-1" in text
    for secret in (IP, USER_AGENT, SESSION_ID, "u-1", "accepted_at", "clickwrap"):
        assert secret not in text


@pytest.mark.parametrize(
    ("attributes", "header", "expected"),
    [
        ({"traceparent": attribute(TRACEPARENT)}, None, [(TRACE_ID, SPAN_ID)]),
        ({}, XRAY, [(TRACE_ID, SPAN_ID)]),
        ({}, XRAY.replace(";", "; "), [(TRACE_ID, SPAN_ID)]),
        ({"traceparent": attribute("nonsense")}, XRAY, [(TRACE_ID, SPAN_ID)]),
        ({"traceparent": {"DataType": "Binary", "BinaryValue": b"x"}}, XRAY, [(TRACE_ID, SPAN_ID)]),
        ({"tracestate": attribute("vendor=7")}, None, []),
        ({"traceparent": attribute(f"00-{'0' * 32}-{SPAN_ID}-01")}, None, []),
        ({"traceparent": attribute(TRACEPARENT + "-" + "x" * 600)}, None, []),
        ({}, f"Root=1-{TRACE_ID[:8]}-{TRACE_ID[8:]}", []),
        ({}, f"Root=1-{'0' * 8}-{'0' * 24};Parent={SPAN_ID}", []),
        ({}, f"Root=1-x-y;Parent={SPAN_ID};Sampled=1", []),
        ({}, ";;=", []),
        ({}, None, []),
    ],
)
async def test_where_a_message_comes_from_is_read_in_either_form(
    attributes: dict[str, Any], header: str | None, expected: list[tuple[str, str]]
) -> None:
    spans = Recorded()
    queue = spans.tracing.queue(FakeQueue(seconds=0))
    await queue.send([OutgoingMessage("", attributes, header)])
    [span] = spans
    assert linked(span) == expected


async def test_a_call_that_fails_says_how_and_so_does_one_whose_entries_do() -> None:
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


async def test_a_poll_that_fails_leaves_a_span_and_one_that_finds_nothing_none() -> None:
    spans = Recorded()
    fake = FakeQueue()
    answers: list[Any] = [[], AWSUnavailableError("gone")]

    async def receive(*_: object, **__: object) -> list[Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    fake.receive = receive  # type: ignore[method-assign] # scripted
    queue = spans.tracing.queue(fake)
    assert await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=9) == []
    assert list(spans) == []
    with pytest.raises(AWSUnavailableError):
        await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=9)
    [span] = spans
    assert held(span)["error.type"] == "AWSUnavailableError"


async def test_what_is_published_names_the_span_that_sent_it_where_there_is_room() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    nine = {f"name-{number}": attribute("x") for number in range(ATTRIBUTES_MAX - 1)}
    ten = {**nine, "another": attribute("x")}
    before = attribute(TRACEPARENT)
    await spans.tracing.publishing(fake).send(
        [
            OutgoingMessage("{}"),
            OutgoingMessage("{}", nine),
            OutgoingMessage("{}", ten),
            OutgoingMessage("{}", {"traceparent": before}),
        ]
    )
    [span] = spans
    assert (span.kind, held(span)["messaging.operation.type"]) == (SpanKind.PRODUCER, "send")
    ours = attribute(f"00-{context(span)[0]}-{context(span)[1]}-{span.context.trace_flags:02x}")
    sent = [message.attributes.get("traceparent") for message in fake.entries("send")]
    assert sent == [ours, ours, None, before]


async def test_a_batch_that_is_all_but_full_grows_not_beyond_what_sqs_takes() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    room = len("traceparent" + "String") + len(TRACEPARENT)
    first = OutgoingMessage("x" * (MESSAGE_MAX_BYTES - room - 2))
    await spans.tracing.publishing(fake).send([first, OutgoingMessage("{}")])
    [whole, small] = fake.entries("send")
    assert whole.size_bytes + small.size_bytes == MESSAGE_MAX_BYTES
    assert ("traceparent" in whole.attributes, "traceparent" in small.attributes) == (True, False)


def test_dead_letters_and_replays_keep_where_a_message_comes_from() -> None:
    nine = {f"name-{number}": attribute("x" * 200) for number in range(ATTRIBUTES_MAX - 1)}
    died = received_message(
        attributes={**nine, "traceparent": attribute(TRACEPARENT)}, trace_header=XRAY
    )
    letter = to_dead_letter(died, "invalid", "", dead_at=START)
    assert letter.trace_header == XRAY
    assert len(letter.attributes) == ATTRIBUTES_MAX
    again = mark_replayed(original(letter), START)
    assert again.attributes["traceparent"] == attribute(TRACEPARENT)
    assert again.trace_header == XRAY


def _process(pipeline: Pipeline) -> Any:
    dispatch: Any = pipeline.supervisor._receiver._accept
    return dispatch.__self__._process


async def test_without_tracing_the_pipeline_calls_the_very_same_functions() -> None:
    world = await open_world()
    repository = world.repository()
    repository._check_owner()
    pipeline = assemble((world.source, world.dead_letters), repository, settings(), now=clock)
    processor = _process(pipeline).__self__
    assert _process(pipeline) == processor.process
    assert pipeline.supervisor._receiver._queue is world.source
    assert processor._recorder._store is repository
    assert inspect.unwrap(pipeline.supervisor._settler._deletes._flush) == world.source.delete
    assert inspect.unwrap(pipeline.supervisor._settler._sends._flush) == world.dead_letters.send
    assert inspect.unwrap(pipeline.leases._extend) == world.source.change_visibility
    assert isinstance(repository._insert, BatchInserts)
    tracing = Recorded().tracing
    other = assemble(
        (world.source, world.dead_letters),
        FakeAcceptanceStore(),
        settings(),
        now=clock,
        tracing=tracing,
    )
    assert not hasattr(_process(other), "__self__"), "with it, it does not"


def test_the_command_line_and_the_service_load_no_opentelemetry() -> None:
    code = (
        "import sys, worker.cli.app, worker.service;"
        "sys.exit(any(name.partition('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - ours


@pytest.mark.parametrize(
    ("environment", "on", "told"),
    [
        ({}, False, ""),
        ({"OTEL_SERVICE_NAME": "mine"}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, False, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True, ""),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            False,
            "OTEL_TRACES_EXPORTER=zipkin: must be otlp or none; it goes on without traces",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            False,
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: must be http/protobuf; it goes on without traces",
        ),
        (
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            },
            True,
            "",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
            False,
            "max_queue_size must be a positive integer.; it goes on without traces",
        ),
    ],
)
async def test_it_is_on_where_the_variables_of_opentelemetry_ask_for_it(
    environment: dict[str, str], on: bool, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    async with traced(lines.append) as tracing:
        assert (tracing is not None) is on
    assert "".join(lines) == told


def test_a_service_name_of_ones_own_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _resource().attributes["service.name"] == "aup-worker"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,team=blue")
    assert _resource().attributes["service.name"] == "theirs"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert _resource().attributes.items() >= {"service.name": "mine", "team": "blue"}.items()


def test_what_the_exporter_says_is_told_in_a_line_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [100.0]
    monkeypatch.setattr("worker.observability.tracing.time.monotonic", lambda: seconds[0])
    lines: list[str] = []
    teller = _Teller(lines.append)
    logger = logging.getLogger("tests.tracing")
    logger.addHandler(teller)
    for _ in range(3):
        logger.warning("no\ncollector at %s", "here")
    seconds[0] += 60
    logger.error("still none")
    logger.info("well")
    assert lines == ["no collector at here", "still none"]


async def test_trace_context_is_left_out_where_the_queue_has_no_room_for_it() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    fake.message_max_bytes = 2000
    await spans.tracing.publishing(fake).send([OutgoingMessage("x" * 1990), OutgoingMessage("{}")])
    assert spans.tracing.queue(fake).message_max_bytes == 2000
    sent = ["traceparent" in message.attributes for message in fake.entries("send")]
    assert sent == [False, True]
