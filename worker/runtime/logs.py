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
    """The end of every log line: written to stderr, or dropped and counted, and never an error.

    Attributes:
        events: where dropped lines are counted.
    """

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self._lines = LineWriter(sys.stderr)

    def __call__(self, *_: object) -> LogSink:
        """Return itself: structlog's factory of loggers."""
        return self

    def drop(self) -> None:
        """Count a line that is lost."""
        self.events[LINES_DROPPED] += 1

    def msg(self, line: str) -> None:
        """Write a rendered line."""
        if not self._lines.write(line):
            self.drop()

    debug = info = warning = error = critical = exception = msg


def configure(level: str, log_format: Literal["auto", "json", "text"]) -> None:
    """Set up structlog: JSON lines when stderr is no terminal, readable text otherwise.

    Args:
        level: the least level that is logged.
        log_format: `json` and `text` decide whatever stderr is.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=_write_exception
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    tail: list[structlog.types.Processor] = (
        [renderer]
        if as_text
        else [structlog.processors.ExceptionRenderer(format_exception), renderer]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *tail,
        ],
        wrapper_class=_never_raising(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=LogSink(),
        cache_logger_on_first_use=False,
    )


def _never_raising(level: int) -> type[structlog.typing.FilteringBoundLogger]:
    filtering: Any = structlog.make_filtering_bound_logger(level)

    class NeverRaising(filtering):  # type: ignore[misc] # made at run time
        """Logs the event alone where its fields cannot be rendered."""

        def _proxy_to_logger(self, method: str, event: str, **fields: Any) -> None:
            proxy = super()._proxy_to_logger
            try:
                proxy(method, event, **fields)
            except Exception as error:  # noqa: BLE001 - a `repr` raises whatever it likes
                try:
                    proxy(method, event, unrendered=type(error).__name__)
                except Exception:  # noqa: BLE001 - the same
                    self._logger.drop()

    return NeverRaising


def count_drops_in(events: Counter[str]) -> None:
    """Count dropped lines there from now on, together with those dropped before."""
    sink = structlog.get_config()["logger_factory"]
    if isinstance(sink, LogSink):
        events.update(sink.events)
        sink.events = events


def _write_exception(output: TextIO, exc_info: ExcInfo) -> None:
    output.write("\n" + format_exception(exc_info))


def bind(fields: Mapping[str, str]) -> None:
    """Add fields to every line from now on, whatever task or thread writes it."""

    def add(
        _: structlog.types.WrappedLogger, __: str, line: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {**line, **fields}

    if fields:
        structlog.configure(processors=[add, *structlog.get_config()["processors"]])
