"""Configuration of traces and of background tasks by the environment."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.monitoring import status_of
from worker.observability.background import background_tasks, traced


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


@pytest.mark.parametrize("address", ["", "vsock:2:1"])
async def test_systemd_is_not_notified_without_a_local_socket(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    before = asyncio.all_tasks()
    async with background_tasks(status_of(None)):
        assert asyncio.all_tasks() == before
