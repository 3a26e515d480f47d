"""Adaptive limit of messages in flight: as many as keep the event loop busy."""

from __future__ import annotations

from typing import Final

ADJUST_SECONDS: Final = 0.1
# So many that batches of 25 are full while others are in flight.
SMALLEST_LIMIT: Final = 100
# Share of the time in which the event loop is not idle.
_SATURATED: Final = 0.985
_TARGET: Final = 0.97
_LARGEST_FACTOR: Final = 2.0
_DECREASE: Final = 0.95


def adjusted(limit: int, busy_share: float, maximum: int) -> int:
    """Return the next limit, for an interval in which polls waited for slots.

    While the event loop is idle at times, the messages in flight wait for AWS, and the throughput
    grows with their number: the limit grows in proportion to the idle time. Once the loop is never
    idle, more messages would only wait longer for it: the limit shrinks slowly. The time for which
    messages are held does not count, so neither slow calls nor messages that are held for a failing
    table lower the limit.

    Args:
        limit: Messages that were allowed to be in flight.
        busy_share: Share of the interval in which the event loop was not idle.
        maximum: Largest limit.
    """
    smallest = min(SMALLEST_LIMIT, maximum)
    if busy_share >= _SATURATED:
        return max(smallest, int(limit * _DECREASE))
    if busy_share >= _TARGET:
        return limit
    factor = min(_LARGEST_FACTOR, _TARGET / max(busy_share, 0.01))
    return min(maximum, max(limit + 1, int(limit * factor)))
