"""Environment variables of a child: those of the parent, with its share of each limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.settings import Settings

# The parent does this for all children together.
_OF_THE_PARENT: Final = (
    "AUP_PROCESSES", "AUP_HEALTH_PORT", "AUP_EMF", "AUP_ECS_PROTECTION", "NOTIFY_SOCKET",
    "WATCHDOG_PID", "WATCHDOG_USEC",
)  # fmt: skip


def child_environment(
    settings: Settings, count: int, environment: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment variables of each child.

    Args:
        settings: settings of the service.
        count: number of children.
        environment: environment variables of the parent.
    """
    shares = {name: str(share) for name, share in _divided(settings, count).items()}
    # pydantic-settings reads names in any case.
    replaced = {*_OF_THE_PARENT, *shares}
    kept = {name: value for name, value in environment.items() if name.upper() not in replaced}
    return kept | shares


def _divided(settings: Settings, count: int) -> dict[str, int]:
    """Return the share of a child, at least 1, of each limit that holds for the whole service.

    AUP_SLOTS holds for each child: memory is limited by AUP_HELD_MIB, and with fewer slots a child
    could not use its CPU at high latencies. Poll and settle concurrency follow from it unless set.
    """
    limits = {
        "AUP_HELD_MIB": settings.held_mib,
        "AUP_WRITE_CONCURRENCY": settings.aws.write_concurrency,
    }
    for field in ("poll_concurrency", "settle_concurrency"):
        if field in settings.model_fields_set:
            limits[f"AUP_{field.upper()}"] = getattr(settings, field)
    return {name: max(1, limit // count) for name, limit in limits.items()}
