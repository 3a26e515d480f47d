"""Tell the story of one seed, line by line, for a person."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

_KEPT = 400
# What the worker logs only when something came to pass that it does not know.
_NEVER_LOGGED = ("settling failed", "unexpected failure", "stage failed")
_QUIET = structlog.make_filtering_bound_logger(30)  # warnings and worse
_TALKATIVE = structlog.make_filtering_bound_logger(10)


class Trace:
    """Keep the last lines, and print them all where somebody wants to watch.

    Args:
        echo: Prints a line; None keeps quiet and keeps no lines either.
    """

    def __init__(self, echo: Callable[[str], None] | None = None) -> None:
        self.wanted = echo is not None
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self.alarms: list[str] = []
        self.warnings: Counter[str] = Counter()
        self._echo = echo

    def tell(self, text: str) -> None:
        """Add a line, with the virtual time."""
        if self._echo is None:
            return
        line = f"{asyncio.get_running_loop().time():10.3f}  {text}"
        self.lines.append(line)
        self._echo(line)

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Take in what the worker logs, and restore what was configured before."""
        before = structlog.get_config()
        structlog.configure(
            processors=[self._take],
            wrapper_class=_TALKATIVE if self.wanted else _QUIET,
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _take(self, _logger: Any, method: str, entry: MutableMapping[str, Any]) -> Any:
        event = entry.pop("event")
        error = entry.pop("exc_info", None)
        if method == "warning":
            self.warnings[event] += 1
            self.warnings[f"{event}: {entry.get('operation')}"] += 1
        if event in _NEVER_LOGGED:
            self.alarms.append(f"{event}: {entry} {error!r}")
        if self.wanted:
            details = " ".join(f"{name}={value}" for name, value in entry.items())
            self.tell(f"    {method}: {event} {details}")
        raise structlog.DropEvent
