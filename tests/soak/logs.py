"""Unexpected lines in the logs of the workers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_UNEXPECTED: Final = ("unexpected failure", "settling failed", "stage failed")


def unexpected_lines(logs: Iterable[Path]) -> tuple[Counter[str], list[str]]:
    """Return the number of unexpected lines by kind, and the first line of each kind."""
    counts: Counter[str] = Counter()
    quotes: list[str] = []
    for log in logs:
        for text in log.read_text(errors="replace").splitlines():
            kind = _unexpected(text)
            if kind:
                counts[kind] += 1
                if counts[kind] == 1:
                    quotes.append(text[:2000])
    return counts, quotes


def has_started(log: Path) -> bool:
    """Return whether a worker has started."""
    return '"event": "started"' in log.read_text(errors="replace")


def _unexpected(text: str) -> str:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        # Only the final error is plain text; a killed worker may leave an incomplete line.
        return "" if text.startswith(("{", "aup-worker:")) else "plain text"
    if line.get("event") in _UNEXPECTED:
        return str(line["event"])
    return "" if line.get("balanced", True) else "accounting does not balance"
