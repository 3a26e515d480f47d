"""Outcomes that the messages of the demonstration must have, and what a redelivery adds to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from worker.demo.messages import event_of, version_of

OUTCOMES: Final = ("recorded", "duplicates", "dead_lettered")
REDELIVERED: Final = "redelivered"


def expected_outcomes(bodies: Iterable[str], published: Collection[str]) -> Counter[str]:
    """Return the number of messages by outcome, if each is received once.

    Args:
        bodies: Bodies of the messages, in the order in which they are sent.
        published: Policy versions that are published while they are processed.
    """
    expected: Counter[str] = Counter()
    events: set[str] = set()
    for body in bodies:
        event = event_of(body)
        if event is None or version_of(body) not in published:
            expected["dead_lettered"] += 1
        elif event in events:
            expected["duplicates"] += 1
        else:
            expected["recorded"] += 1
            events.add(event)
    return expected


def without_redeliveries(figures: Mapping[str, Any], expected: Mapping[str, int]) -> Counter[str]:
    """Return the figures of the service by outcome, with redelivered messages counted apart.

    The embedded server is slow on a busy machine. It then delivers a message again whose visibility
    timeout has ended, and the service counts it again: usually as a duplicate.

    Args:
        figures: Figures of the service, by outcome.
        expected: Number of messages by outcome, see `expected_outcomes`.
    """
    counts: Counter[str] = Counter()
    for outcome in OUTCOMES:
        count, wanted = int(figures.get(outcome, 0)), expected.get(outcome, 0)
        counts[outcome] = min(count, wanted)
        counts[REDELIVERED] += max(count - wanted, 0)
    return counts
