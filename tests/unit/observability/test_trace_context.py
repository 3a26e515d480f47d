"""Trace context in message attributes."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, FakeQueue, received_message
from tests.unit.observability.test_tracing import (
    SPAN_ID,
    TRACE_ID,
    TRACEPARENT,
    XRAY,
    Recorded,
    attribute,
    context,
    held,
    linked,
)
from worker.domain.dead_letter import mark_replayed, original, to_dead_letter
from worker.domain.message import ATTRIBUTES_MAX, MESSAGE_MAX_BYTES, OutgoingMessage


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
async def test_origin_is_read_from_w3c_and_xray_context(
    attributes: dict[str, Any], header: str | None, expected: list[tuple[str, str]]
) -> None:
    spans = Recorded()
    queue = spans.tracing.queue(FakeQueue(seconds=0))
    await queue.send([OutgoingMessage("", attributes, header)])
    [span] = spans
    assert linked(span) == expected


async def test_published_message_has_the_context_of_its_span_if_attributes_allow() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    nine = {f"name-{number}": attribute("x") for number in range(ATTRIBUTES_MAX - 1)}
    ten = {**nine, "another": attribute("x")}
    earlier = attribute(TRACEPARENT)
    await spans.tracing.publishing(fake).send(
        [
            OutgoingMessage("{}"),
            OutgoingMessage("{}", nine),
            OutgoingMessage("{}", ten),
            OutgoingMessage("{}", {"traceparent": earlier}),
        ]
    )
    [span] = spans
    assert (span.kind, held(span)["messaging.operation.type"]) == (SpanKind.PRODUCER, "send")
    added = attribute(f"00-{context(span)[0]}-{context(span)[1]}-{span.context.trace_flags:02x}")
    sent = [message.attributes.get("traceparent") for message in fake.entries("send")]
    assert sent == [added, added, None, earlier]


async def test_context_does_not_exceed_the_size_limit_of_a_batch() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    added = len("traceparent" + "String") + len(TRACEPARENT)
    first = OutgoingMessage("x" * (MESSAGE_MAX_BYTES - added - 2))
    await spans.tracing.publishing(fake).send([first, OutgoingMessage("{}")])
    [whole, small] = fake.entries("send")
    assert whole.size_bytes + small.size_bytes == MESSAGE_MAX_BYTES
    assert ("traceparent" in whole.attributes, "traceparent" in small.attributes) == (True, False)


def test_dead_letters_and_replays_keep_the_trace_context() -> None:
    nine = {f"name-{number}": attribute("x" * 200) for number in range(ATTRIBUTES_MAX - 1)}
    message = received_message(
        attributes={**nine, "traceparent": attribute(TRACEPARENT)}, trace_header=XRAY
    )
    dead_letter = to_dead_letter(message, "invalid", "", dead_at=START)
    assert dead_letter.trace_header == XRAY
    assert len(dead_letter.attributes) == ATTRIBUTES_MAX
    replayed = mark_replayed(original(dead_letter), START, ORIGIN)
    assert replayed.attributes["traceparent"] == attribute(TRACEPARENT)
    assert replayed.trace_header == XRAY


async def test_context_does_not_exceed_the_message_size_of_the_queue() -> None:
    spans = Recorded()
    fake = FakeQueue(seconds=0)
    fake.message_max_bytes = 2000
    await spans.tracing.publishing(fake).send([OutgoingMessage("x" * 1990), OutgoingMessage("{}")])
    assert spans.tracing.queue(fake).message_max_bytes == 2000
    sent = ["traceparent" in message.attributes for message in fake.entries("send")]
    assert sent == [False, True]
