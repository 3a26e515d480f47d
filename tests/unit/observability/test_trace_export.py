"""Configuration and problems of the trace exporter."""

from __future__ import annotations

import logging

import pytest

from worker.observability.background import traced
from worker.observability.trace_export import ExportProblems, service_resource


@pytest.mark.parametrize(
    ("environment", "on", "report"),
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
            "OTEL_TRACES_EXPORTER=zipkin: must be otlp or none; continuing without traces",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            False,
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: must be http/protobuf; continuing without traces",
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
            "max_queue_size must be a positive integer.; continuing without traces",
        ),
    ],
)
async def test_traces_are_enabled_by_the_variables_of_opentelemetry(
    environment: dict[str, str], on: bool, report: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    async with traced(lines.append) as tracing:
        assert (tracing is not None) is on
    assert "".join(lines) == report


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
