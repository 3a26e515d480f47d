"""What no log may hold: the values that sample messages state, and a watch on all logs."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from structlog._base import BoundLoggerBase

from worker.runtime.redaction import format_exception

# Nobody else's: a network for documentation, and words of no client's and no session's.
IP: Final = "203.0.113.77"
USER_AGENT: Final = "Mozilla/5.0 (secret agent)"
SESSION_ID: Final = "session-s3cr3t"
PRIVATE: Final = {"ip": IP, "user_agent": USER_AGENT, "session_id": SESSION_ID}

# Any part of one, and a field's name as only bodies, items and objects have it.
_BETRAYAL: Final = re.compile(
    r"203\.0\.113\.|secret agent|s3cr3t|accepted_at(?:\\*[\"']|=)", re.IGNORECASE
)
_OF_ONE_MESSAGE: Final = {"message_id", "event_id", "outcome"}
_process_event: Final = BoundLoggerBase._process_event


def betrayed(text: str) -> str | None:
    """Give the part of a log that shows something private; None if nothing does."""
    found = _BETRAYAL.search(text)
    return None if found is None else text[max(0, found.start() - 200) : found.end() + 100]


@contextmanager
def watched_logs() -> Iterator[list[str]]:
    """Watch all that is logged, whatever structlog is told to do with it.

    Returns:
        What is wrong with it, line by line.
    """
    wrong: list[str] = []

    def watch(logger: BoundLoggerBase, method: str, event: str, fields: dict[str, Any]) -> Any:
        wrong.extend(_wrong(event, {**logger._context, **fields}))
        return _process_event(logger, method, event, fields)

    root, watch_of_libraries = logging.getLogger(), _Watch(wrong)
    outer = BoundLoggerBase._process_event, root.handlers
    BoundLoggerBase._process_event = watch  # type: ignore[method-assign,assignment] # on purpose
    root.handlers = [each for each in root.handlers if not isinstance(each, _Watch)]
    root.addHandler(watch_of_libraries)
    try:
        yield wrong
    finally:
        root.removeHandler(watch_of_libraries)
        BoundLoggerBase._process_event, root.handlers = outer  # type: ignore[method-assign] # back


def _wrong(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    part = betrayed(f"{event} {dict(fields)} {_rendered(fields.get('exc_info'))}")
    if part is not None:
        yield f"{event!r} shows something private: {part}"
    if "message_id" in fields and not fields.keys() >= _OF_ONE_MESSAGE:
        yield f"{event!r} is of one message, and without {_OF_ONE_MESSAGE - fields.keys()}"


def _rendered(exc_info: Any) -> str:
    """Give the traceback as our own logs show it."""
    error = exc_info if isinstance(exc_info, BaseException) else None
    if exc_info and error is None:
        error = sys.exc_info()[1]
    return "" if error is None else format_exception((type(error), error, error.__traceback__))


def _texts(error: BaseException | None) -> str:
    """Give what a traceback of Python's own would say besides code."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(texts)


class _Watch(logging.Handler):
    """Watch what libraries log, as far as it would come to stderr."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._wrong.extend(_wrong(f"{record.getMessage()} {_texts(error)}", {}))
