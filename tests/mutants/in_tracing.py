"""Faults in what follows messages: spans, and the lines of the log."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_TRACING: Final = "worker/observability/tracing.py"
_TESTS: Final = ("tests/unit/observability/test_tracing.py",)

MUTANTS: Final = (
    Mutant(
        "a body in the log",
        "worker/pipeline/process.py",
        "            receive_count=message.receive_count,\n",
        "            receive_count=message.receive_count,\n            body=message.body,\n",
        ("tests/unit/pipeline/test_process.py::test_valid_messages_are_recorded_once_and_deleted",),
    ),
    Mutant(
        "a line for one message that does not say which event",
        "worker/pipeline/lease.py",
        '            "event_id": self.event_id,\n',
        "",
        ("tests/unit/pipeline/test_settle.py",),
    ),
    Mutant(
        "a call that serves many is part of the first one's trace",
        _TRACING,
        "parent: Context | None = _NO_PARENT,",
        "parent: Context | None = None,",
        _TESTS,
    ),
    Mutant(
        "X-Ray's header passed over",
        _TRACING,
        '_origin_by_xray(message.trace_header or "")',
        "None",
        _TESTS,
    ),
    Mutant(
        "a message grown beyond what SQS takes by its trace",
        _TRACING,
        "more <= room and not",
        "not",
        _TESTS,
    ),
    Mutant(
        "an eleventh attribute",
        _TRACING,
        "fits = more <= room and not candidate.why_refused(max_bytes)",
        "fits = more <= room",
        _TESTS,
    ),
    Mutant(
        "a dead message whose span is no failure",
        _TRACING,
        "if outcome.kind is OutcomeKind.DEAD_LETTERED and outcome.reason is not None:",
        "if outcome.kind is OutcomeKind.RETURNED and outcome.reason is not None:",
        _TESTS,
    ),
    Mutant(
        "complaints about a collector without end",
        _TRACING,
        "if now >= self._quiet_until:",
        "if True:",
        _TESTS,
    ),
    Mutant(
        "traces that nobody asked for",
        "worker/observability/background.py",
        'return exporter != "none" if exporter else any(map(environment.get, endpoints))',
        'return exporter != "none"',
        _TESTS,
    ),
)
