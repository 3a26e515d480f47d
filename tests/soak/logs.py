"""What the workers told that they never should have to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_UNEXPECTED: Final = ("unexpected failure", "settling failed", "stage failed")


def complaints(logs: Iterable[Path]) -> tuple[Counter[str], list[str]]:
    """Count unexpected events, and books that do not balance; quote the first of each log."""
    counts: Counter[str] = Counter()
    quotes: list[str] = []
    for log in logs:
        for text in log.read_text(errors="replace").splitlines():
            complaint = _complaint(text)
            if complaint:
                counts[complaint] += 1
                if counts[complaint] == 1:
                    quotes.append(text[:2000])
    return counts, quotes


def has_started(log: Path) -> bool:
    """Say whether a worker has begun to poll."""
    return '"event": "started"' in log.read_text(errors="replace")


def _complaint(text: str) -> str:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        # Only the last words of a worker are plain; of a killed one, half a line may be left.
        return "" if text.startswith(("{", "aup-worker:")) else "plain text"
    if line.get("event") in _UNEXPECTED:
        return str(line["event"])
    return "" if line.get("balanced", True) else "books do not balance"
