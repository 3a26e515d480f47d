"""Trace context in message attributes: links to producers, and injection into sent messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage, ReceivedMessage

NO_PARENT: Final = Context()
# W3C Trace Context, "tracestate Limits": longer values need not be propagated.
_CONTEXT_MAX_CHARACTERS: Final = 512
_W3C: Final = TraceContextTextMapPropagator()
# AWS X-Ray developer guide, "Tracing header".
_XRAY_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_XRAY_PARENT: Final = re.compile(r"[0-9a-f]{16}")


def producer_links(messages: Sequence[ReceivedMessage | OutgoingMessage]) -> list[Link]:
    """Return links to the spans that produced the messages; none for a message without context."""
    links = []
    for message in messages:
        origin = _origin(message)
        if origin is not None and isinstance(message, ReceivedMessage):
            links.append(Link(origin, {"messaging.message.id": message.message_id}))
        elif origin is not None:
            links.append(Link(origin))
    return links


def inject(
    messages: Sequence[OutgoingMessage], span: Span, max_bytes: int
) -> list[OutgoingMessage]:
    """Add the context of a span to messages, as far as the limits of SQS allow it.

    Args:
        messages: one batch.
        span: the span that sends them.
        max_bytes: limit of one message's body and attributes together.
    """
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    context = {
        name: {"DataType": "String", "StringValue": value} for name, value in carrier.items()
    }
    free = MESSAGE_MAX_BYTES - sum(message.size_bytes for message in messages)
    injected = []
    for message in messages:
        candidate = message
        if "traceparent" not in message.attributes:
            candidate = replace(message, attributes={**message.attributes, **context})
        added = candidate.size_bytes - message.size_bytes
        fits = added <= free and not candidate.why_refused(max_bytes)
        injected.append(candidate if fits else message)
        free -= added if fits else 0
    return injected


def inject_current(message: OutgoingMessage, max_bytes: int) -> OutgoingMessage:
    """Add the context of the current span to a message, as far as the limits of SQS allow it."""
    return inject([message], trace.get_current_span(), max_bytes)[0]


def _origin(message: ReceivedMessage | OutgoingMessage) -> SpanContext | None:
    carrier = {}
    for name in ("traceparent", "tracestate"):
        value = message.attributes.get(name, {}).get("StringValue")
        if value and len(value) <= _CONTEXT_MAX_CHARACTERS:
            carrier[name] = value
    found = trace.get_current_span(_W3C.extract(carrier, NO_PARENT)).get_span_context()
    return found if found.is_valid else _xray_origin(message.trace_header or "")


def _xray_origin(header: str) -> SpanContext | None:
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
