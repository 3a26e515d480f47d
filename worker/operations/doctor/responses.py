"""Reachability of AWS and clock offset, from response headers."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from worker.pipeline.sqs_clock import date_seconds

_SERVICES: Final = ("sqs", "dynamodb", "sts")


class Responses:
    """Responses that the clients of a session received, errors included.

    Args:
        clock: returns the local time in Unix seconds.

    Attributes:
        services: services that sent at least one response.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.services: set[str] = set()
        self._offsets: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = clock

    def listen(self, session: Any) -> None:
        """Observe the responses to all clients that the session creates from now on."""
        for service in _SERVICES:
            # Before parsing: a response that cannot be parsed is a response too.
            session.events.register_first(f"before-parse.{service}", self._observe)

    def _observe(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        headers = {
            str(name).lower(): str(value) for name, value in response_dict["headers"].items()
        }
        self.add(operation_model.service_model.service_name, headers.get("date", ""))

    def add(self, service: str, date: str) -> None:
        """Add a response.

        Args:
            service: the service that sent it.
            date: its `Date` header, truncated to whole seconds by the server.
        """
        self.services.add(service)
        stated = date_seconds(date)
        if stated is not None:
            self._offsets[service].append(self._clock() - stated - 0.5)

    def offset_seconds(self) -> float | None:
        """Return how far the local clock is ahead, or None if no response had a date."""
        offsets = [each for offsets in self._offsets.values() for each in offsets]
        return statistics.median(offsets) if offsets else None
