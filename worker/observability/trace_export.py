"""Export of traces over OTLP, configured by OpenTelemetry's environment variables."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from worker import __version__
from worker.observability.tracing import OpenTelemetry

_FLUSH_SECONDS: Final = 2.0
_REPORT_INTERVAL_SECONDS: Final = 60.0
_REPORT_MAX_CHARACTERS: Final = 300


@asynccontextmanager
async def exporting(report: Callable[[str], None]) -> AsyncIterator[OpenTelemetry]:
    """Export traces, and flush the remaining spans on exit.

    Args:
        report: called with one line, at most once a minute, if spans cannot be exported.

    Raises:
        ValueError: an environment variable of OpenTelemetry is invalid.
    """
    problems = ExportProblems(report)
    # The exporter's thread would otherwise log to stderr in another format.
    logger = logging.getLogger("opentelemetry")
    logger.handlers, logger.propagate = [problems], False
    provider = TracerProvider(resource=service_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield OpenTelemetry(provider)
    finally:
        await _flush(provider, problems)


def service_resource() -> Resource:
    """Return the resource of all spans; OTEL_SERVICE_NAME takes precedence."""
    default = Resource.create({"service.name": "aup-worker", "service.version": __version__})
    return default.merge(OTELResourceDetector().detect())


async def _flush(provider: TracerProvider, problems: ExportProblems) -> None:
    """Export the remaining spans, with a deadline."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def shut_down() -> None:
        provider.shutdown()
        with suppress(RuntimeError):  # the loop is closed after the deadline
            loop.call_soon_threadsafe(done.set)

    # A daemon thread, because the interpreter waits for the threads of a pool.
    threading.Thread(target=shut_down, name="traces", daemon=True).start()
    try:
        async with asyncio.timeout(_FLUSH_SECONDS):
            await done.wait()
    except TimeoutError:
        problems.report(f"the last spans were not exported within {_FLUSH_SECONDS:g} s")


class ExportProblems(logging.Handler):
    """Log handler that reports warnings of OpenTelemetry in one line, at most once a minute.

    Args:
        report: called with the line.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._report = report
        self._quiet_until = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Report a log record."""
        self.report(record.getMessage())

    def report(self, text: str) -> None:
        """Report a problem, unless another was reported within the last minute."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _REPORT_INTERVAL_SECONDS
            self._report(" ".join(text.split())[:_REPORT_MAX_CHARACTERS])
