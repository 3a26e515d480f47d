"""Private values of sample messages, and a check that no log contains them."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from structlog._base import BoundLoggerBase

from worker.runtime.redaction import format_exception

# A network reserved for documentation, and values that no other test uses.
IP: Final = "203.0.113.77"
USER_AGENT: Final = "Mozilla/5.0 (secret agent)"
SESSION_ID: Final = "session-s3cr3t"
PRIVATE: Final = {"ip": IP, "user_agent": USER_AGENT, "session_id": SESSION_ID}

# Any part of a private value, or a field name as it occurs only in bodies, items and objects.
_PRIVATE_TEXT: Final = re.compile(
    r"203\.0\.113\.|secret agent|s3cr3t|accepted_at(?:\\*[\"']|=)", re.IGNORECASE
)
_MESSAGE_FIELDS: Final = {"message_id", "event_id", "outcome"}
_process_event: Final = BoundLoggerBase._process_event


def find_private_text(text: str) -> str | None:
    """Return the excerpt of a log that contains something private, or None."""
    found = _PRIVATE_TEXT.search(text)
    return None if found is None else text[max(0, found.start() - 200) : found.end() + 100]


@contextmanager
def checked_logs() -> Iterator[list[str]]:
    """Check everything that is logged in the block, however structlog is configured.

    Yields:
        The problems found so far, one per line.
    """
    problems: list[str] = []

    def check(logger: BoundLoggerBase, method: str, event: str, fields: dict[str, Any]) -> Any:
        problems.extend(_problems(event, {**logger._context, **fields}))
        return _process_event(logger, method, event, fields)

    root, library_handler = logging.getLogger(), _LibraryLogHandler(problems)
    previous = BoundLoggerBase._process_event, root.handlers
    BoundLoggerBase._process_event = check  # type: ignore[method-assign,assignment] # on purpose
    root.handlers = [each for each in root.handlers if not isinstance(each, _LibraryLogHandler)]
    root.addHandler(library_handler)
    try:
        yield problems
    finally:
        root.removeHandler(library_handler)
        BoundLoggerBase._process_event, root.handlers = previous  # type: ignore[method-assign] # back


def _problems(event: str, fields: Mapping[str, Any]) -> Iterator[str]:
    part = find_private_text(f"{event} {dict(fields)} {_traceback(fields.get('exc_info'))}")
    if part is not None:
        yield f"{event!r} contains something private: {part}"
    if "message_id" in fields and not fields.keys() >= _MESSAGE_FIELDS:
        yield f"{event!r} is about one message but lacks {_MESSAGE_FIELDS - fields.keys()}"


def _traceback(exc_info: Any) -> str:
    """Return the traceback as the worker logs it."""
    error = exc_info if isinstance(exc_info, BaseException) else None
    if exc_info and error is None:
        error = sys.exc_info()[1]
    return "" if error is None else format_exception((type(error), error, error.__traceback__))


def _exception_texts(error: BaseException | None) -> str:
    """Return the exception texts that a standard traceback would contain."""
    texts = []
    while error is not None:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return " ".join(texts)


class _LibraryLogHandler(logging.Handler):
    """Handler that checks the library logs that would reach stderr."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._problems.extend(_problems(f"{record.getMessage()} {_exception_texts(error)}", {}))
