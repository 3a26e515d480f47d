"""Structured logs on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Literal

import structlog


def configure(level: str, log_format: Literal["auto", "json", "text"]) -> None:
    """Set up structlog: JSON lines when stderr is no terminal, readable text otherwise.

    Args:
        level: the least level that is logged.
        log_format: `json` and `text` decide whatever stderr is.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        # Without local variables in tracebacks: they would hold messages.
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if as_text
        else structlog.processors.JSONRenderer()
    )
    tail: list[structlog.types.Processor] = (
        [renderer] if as_text else [structlog.processors.format_exc_info, renderer]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *tail,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def bind(fields: Mapping[str, str]) -> None:
    """Add fields to every line from now on, whatever task or thread writes it."""

    def add(
        _: structlog.types.WrappedLogger, __: str, line: structlog.types.EventDict
    ) -> structlog.types.EventDict:
        return {**line, **fields}

    if fields:
        structlog.configure(processors=[add, *structlog.get_config()["processors"]])
