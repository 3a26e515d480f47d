"""Trace of the steps of one seed, line by line."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

_MAX_LINES = 400
# Log events of unexpected failures.
_UNEXPECTED_EVENTS = ("settling failed", "unexpected failure", "stage failed")
_WARNINGS_ONLY = structlog.make_filtering_bound_logger(30)  # warnings and worse
_ALL_LEVELS = structlog.make_filtering_bound_logger(10)


class Trace:
    """Trace lines with virtual times, and the log events of the worker.

    Args:
        echo: Prints a line; None disables the trace.
    """

    def __init__(self, echo: Callable[[str], None] | None = None) -> None:
        self.is_enabled = echo is not None
        self.lines: deque[str] = deque(maxlen=_MAX_LINES)
        self.unexpected_events: list[str] = []
        self.warnings: Counter[str] = Counter()
        self._echo = echo

    def add(self, text: str) -> None:
        """Add a line with the virtual time."""
        if self._echo is None:
            return
        line = f"{asyncio.get_running_loop().time():10.3f}  {text}"
        self.lines.append(line)
        self._echo(line)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Capture the worker's log until the block ends, then restore the configuration."""
        before = structlog.get_config()
        structlog.configure(
            processors=[self._process],
            wrapper_class=_ALL_LEVELS if self.is_enabled else _WARNINGS_ONLY,
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _process(self, _logger: Any, method: str, entry: MutableMapping[str, Any]) -> Any:
        event = entry.pop("event")
        error = entry.pop("exc_info", None)
        if method == "warning":
            self.warnings[event] += 1
            self.warnings[f"{event}: {entry.get('operation')}"] += 1
        if event in _UNEXPECTED_EVENTS:
            self.unexpected_events.append(f"{event}: {entry} {error!r}")
        if self.is_enabled:
            details = " ".join(f"{name}={value}" for name, value in entry.items())
            self.add(f"    {method}: {event} {details}")
        raise structlog.DropEvent
