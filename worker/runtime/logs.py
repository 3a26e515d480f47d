"""Structured logs on stderr."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog

from worker.runtime.redaction import ExcInfo, format_exception
from worker.runtime.streams import LineWriter

LINES_DROPPED: Final = "log_lines_dropped"


class LogSink:
    """Output of log lines to stderr; lines that cannot be written are dropped and counted.

    Attributes:
        events: Counter of dropped lines.
    """

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self._lines = LineWriter(sys.stderr)

    def __call__(self, *_: object) -> LogSink:
        """Return itself, as structlog's logger factory."""
        return self

    def drop(self) -> None:
        """Count a dropped line."""
        self.events[LINES_DROPPED] += 1

    def msg(self, line: str) -> None:
        """Write a rendered line."""
        if not self._lines.write(line):
            self.drop()

    debug = info = warning = error = critical = exception = msg


def configure(level: str, log_format: Literal["auto", "json", "text"]) -> None:
    """Configure structlog.

    Args:
        level: Minimum level.
        log_format: `auto` is text on a terminal and JSON lines otherwise.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    rendering: list[structlog.types.Processor]
    if as_text:
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_write_exception
            )
        ]
    else:
        exceptions = structlog.processors.ExceptionRenderer(format_exception)
        rendering = [exceptions, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=_never_raising(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=LogSink(),
        cache_logger_on_first_use=False,
    )


def _never_raising(level: int) -> type[structlog.typing.FilteringBoundLogger]:
    filtering: Any = structlog.make_filtering_bound_logger(level)

    class NeverRaising(filtering):  # type: ignore[misc] # created at run time
        """A logger that logs the event alone if its fields cannot be rendered."""

        def _proxy_to_logger(self, method: str, event: str, **fields: Any) -> None:
            proxy = super()._proxy_to_logger
            try:
                proxy(method, event, **fields)
            except Exception as error:  # noqa: BLE001 - a `repr` may raise anything
                try:
                    proxy(method, event, unrendered=type(error).__name__)
                except Exception:  # noqa: BLE001 - the same
                    self._logger.drop()

    return NeverRaising


def count_drops_in(events: Counter[str]) -> None:
    """Count dropped lines in a given counter, including those dropped before."""
    sink = structlog.get_config()["logger_factory"]
    if isinstance(sink, LogSink):
        events.update(sink.events)
        sink.events = events


def _write_exception(output: TextIO, exc_info: ExcInfo) -> None:
    output.write("\n" + format_exception(exc_info))


def bind(fields: Mapping[str, str | int]) -> None:
    """Add fields to every later line, of all tasks and threads."""

    def add(
        _: structlog.types.WrappedLogger, __: str, line: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {**line, **fields}

    if fields:
        structlog.configure(processors=[add, *structlog.get_config()["processors"]])
