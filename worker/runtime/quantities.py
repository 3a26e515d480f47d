"""Counts and durations as text."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a number of things as text."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration as text in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
