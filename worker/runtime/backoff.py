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
    """Draw the delay before the next attempt, with exponential growth and full jitter.

    Args:
        attempt: how many attempts have failed, from 1.
        base_seconds: the upper end of the first delay.
        cap_seconds: the upper end that no delay exceeds.
        random_unit: gives a number in [0, 1).

    Returns:
        Seconds in [0, min(cap, base * 2^(attempt-1))).

    Source: AWS Architecture Blog, "Exponential Backoff and Jitter".
    """
    ceiling = min(cap_seconds, base_seconds * 2.0 ** min(attempt - 1, 60))
    return random_unit() * ceiling
