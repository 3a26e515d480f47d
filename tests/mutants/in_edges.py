"""Faults around the pipeline: delays, settings, signals, giving up."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "a backoff without a cap",
        "worker/backoff.py",
        "min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 60))",
        "base_seconds * 2.0 ** min(attempt - 1, 60)",
        ("tests/unit/test_backoff.py",),
    ),
    Mutant(
        "a backoff without jitter",
        "worker/backoff.py",
        "return random_unit() * ceiling",
        "return ceiling",
        ("tests/unit/test_backoff.py",),
    ),
    Mutant(
        "settings that contradict each other unchecked",
        "worker/settings.py",
        "problems += contradictions(settings)",
        "pass",
        ("tests/unit/test_settings.py",),
    ),
    Mutant(
        "more attempts than the queue's redrive policy leaves",
        "worker/preflight.py",
        "last = max(1, source.max_receive_count - 1)",
        "last = source.max_receive_count",
        ("tests/unit/test_preflight.py",),
    ),
    Mutant(
        "a second signal ignored",
        "worker/service.py",
        "main.cancel()",
        "pass",
        ("tests/unit/test_service.py", "-k", "signal"),
    ),
    Mutant(
        "a signal ignored",
        "worker/service.py",
        "            stopping.set()",
        "            pass",
        ("tests/unit/test_service.py", "-k", "drains"),
    ),
    Mutant(
        "patience without an end",
        "worker/pipeline/patience.py",
        "if self._denied_seconds >= self._seconds:",
        "if False:",
        ("tests/unit/test_patience.py",),
    ),
    Mutant(
        "a loop that stands still is left alone",
        "worker/stall.py",
        "if overdue > 1:",
        "if False:",
        ("tests/unit/test_stall.py",),
    ),
)
