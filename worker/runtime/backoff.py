"""Delays between attempts."""

from __future__ import annotations

import random
from collections.abc import Callable


def full_jitter(
    attempt: int,
    *,
    base_seconds: float,
    cap_seconds: float,
    random_unit: Callable[[], float] = random.random,
) -> float:
    """Return a random delay before the next attempt, by exponential backoff with full jitter.

    Args:
        attempt: Number of failed attempts, at least 1.
        base_seconds: Upper bound of the first delay.
        cap_seconds: Upper bound of every delay.
        random_unit: Returns a number in [0, 1).

    Returns:
        Seconds in [0, min(cap, base * 2^(attempt-1))).

    Source: AWS Architecture Blog, "Exponential Backoff and Jitter".
    """
    ceiling = min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 60))
    return random_unit() * ceiling
