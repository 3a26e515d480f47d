"""Structured logs on stderr."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

import structlog

from worker.runtime.event_lines import event_line, is_terminal
from worker.runtime.redaction import ExcInfo, format_exception
from worker.runtime.streams import LineWriter

LINES_DROPPED: Final = "log_lines_dropped"
# To the first column, and erase the line.
_ERASE: Final = "\r\x1b[K"


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


class TerminalSink(LogSink):
    """Output of log lines to a terminal, above a line that is redrawn.

    Another process may write to the same terminal: each line begins with erasing what is on it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._live = ""

    def msg(self, line: str) -> None:
        """Write a rendered line, and the live line below it."""
        if not self._lines.write_text(f"{_ERASE}{line}\n{self._live}"):
            self.drop()

    debug = info = warning = error = critical = exception = msg

    def show(self, live: str) -> None:
        """Replace the live line; an empty one removes it."""
        self._live = live
        self._lines.write_text(f"{_ERASE}{live}")


def terminal_sink() -> TerminalSink | None:
    """Return the sink of a log on a terminal; None if the log goes elsewhere."""
    sink = structlog.get_config()["logger_factory"]
    return sink if isinstance(sink, TerminalSink) else None


def configure(level: str, log_format: Literal["auto", "json", "text"]) -> None:
    """Configure structlog.

    Args:
        level: Minimum level.
        log_format: `auto` is short lines on a terminal and JSON lines otherwise.
    """
    on_terminal = log_format == "auto" and is_terminal()
    exceptions = structlog.processors.ExceptionRenderer(format_exception)
    rendering: list[structlog.types.Processor]
    if on_terminal:
        rendering = [exceptions, event_line]
    elif log_format == "text" or (log_format == "auto" and sys.stderr.isatty()):
        rendering = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_write_exception
            )
        ]
    else:
        rendering = [exceptions, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(
                fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal
            ),
            *rendering,
        ],
        wrapper_class=_never_raising(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=TerminalSink() if on_terminal else LogSink(),
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
