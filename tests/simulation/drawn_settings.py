"""Settings and retention periods drawn from a seed."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.simulation.world import LONG_RETENTION_SECONDS

_SHORT_RETENTION_SHARE = 0.2


def drawn_settings(plan: Random) -> dict[str, Any]:
    """Draw the settings of all workers."""
    return {
        "write_api": plan.choice(("batch", "put")),
        "slots": plan.choice((1, 3, 20, 60)),
        "poll_concurrency": plan.choice((1, 2, 4)),
        "settle_concurrency": plan.choice((1, 4)),
        "wait_seconds": plan.choice((1, 5, 20, 20, 20)),
        "hold_seconds": plan.choice((30.0, 120.0, 600.0)),
        "give_up_seconds": plan.choice((60.0, 300.0, 300.0)),
    }


def drawn_retention(plan: Random) -> tuple[int, int]:
    """Draw the retention periods of both queues, the longer one for dead letters."""
    if plan.random() >= _SHORT_RETENTION_SHARE:
        return LONG_RETENTION_SECONDS
    source = plan.choice((600, 600, 1200))
    return source, round(source * plan.uniform(1.5, 4.0))
