"""Faults in spans and log lines of messages."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_TRACING: Final = "worker/observability/tracing.py"
_CONTEXT: Final = "worker/observability/trace_context.py"
_EXPORT: Final = "worker/observability/trace_export.py"
_TESTS: Final = ("tests/unit/observability/test_tracing.py",)
_CONTEXT_TESTS: Final = ("tests/unit/observability/test_trace_context.py",)
_BACKGROUND_TESTS: Final = ("tests/unit/observability/test_background.py",)
_EXPORT_TESTS: Final = ("tests/unit/observability/test_trace_export.py",)

MUTANTS: Final = (
    Mutant(
        "a body is logged",
        "worker/pipeline/process.py",
        "receive_count=message.receive_count,\n            )",
        "receive_count=message.receive_count,\n                body=message.body,\n            )",
        ("tests/unit/pipeline/test_process.py::test_valid_messages_are_recorded_once_and_deleted",),
    ),
    Mutant(
        "a line about one message lacks its event id",
        "worker/pipeline/lease.py",
        '            "event_id": self.event_id,\n',
        "",
        ("tests/unit/pipeline/test_settle.py",),
    ),
    Mutant(
        "a call for several messages belongs to the trace of the first",
        _TRACING,
        "parent: Context | None = NO_PARENT,",
        "parent: Context | None = None,",
        _TESTS,
    ),
    Mutant(
        "the X-Ray header is ignored",
        _CONTEXT,
        '_xray_origin(message.trace_header or "")',
        "None",
        _CONTEXT_TESTS,
    ),
    Mutant(
        "a trace context makes a message exceed the SQS limit",
        _CONTEXT,
        "added <= free and not",
        "not",
        _CONTEXT_TESTS,
    ),
    Mutant(
        "an eleventh attribute is added",
        _CONTEXT,
        "fits = added <= free and not candidate.why_refused(max_bytes)",
        "fits = added <= free",
        _CONTEXT_TESTS,
    ),
    Mutant(
        "the span of a dead-lettered message has no error",
        _TRACING,
        "if outcome.kind is OutcomeKind.DEAD_LETTERED and outcome.reason is not None:",
        "if outcome.kind is OutcomeKind.RETURNED and outcome.reason is not None:",
        _TESTS,
    ),
    Mutant(
        "a failing collector is logged without end",
        _EXPORT,
        "if now >= self._quiet_until:",
        "if True:",
        _EXPORT_TESTS,
    ),
    Mutant(
        "traces are exported without being configured",
        "worker/observability/background.py",
        'return exporter != "none" if exporter else any(map(os.environ.get, endpoints))',
        'return exporter != "none"',
        _BACKGROUND_TESTS,
    ),
)
