"""Resource and problems of the trace exporter."""

from __future__ import annotations

import logging

import pytest

from worker.observability.trace_export import ExportProblems, service_resource


def test_configured_service_name_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert service_resource().attributes["service.name"] == "aup-worker"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,team=blue")
    assert service_resource().attributes["service.name"] == "theirs"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    assert service_resource().attributes.items() >= {"service.name": "mine", "team": "blue"}.items()


def test_export_problems_are_reported_in_one_line_at_most_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = [100.0]
    monkeypatch.setattr("worker.observability.trace_export.time.monotonic", lambda: seconds[0])
    lines: list[str] = []
    problems = ExportProblems(lines.append)
    logger = logging.getLogger("tests.tracing")
    logger.addHandler(problems)
    for _ in range(3):
        logger.warning("no\ncollector at %s", "here")
    seconds[0] += 60
    logger.error("still none")
    logger.info("well")
    assert lines == ["no collector at here", "still none"]
