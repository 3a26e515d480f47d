"""What every answer of AWS tells by the way: that somebody is there, and what time it is."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from worker.pipeline.sqs_clock import date_seconds

_SERVICES: Final = ("sqs", "dynamodb", "sts")


class Responses:
    """Note the answers of a session's clients, errors included.

    Args:
        clock: gives the seconds since 1970 as this machine believes.

    Attributes:
        services: those that answered anything.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.services: set[str] = set()
        self._offsets: defaultdict[str, list[float]] = defaultdict(list)
        self._clock = clock

    def listen(self, session: Any) -> None:
        """Hear every answer that comes to clients which are opened from now on."""
        for service in _SERVICES:
            # Before it is judged: an answer that is not to be believed is one all the same.
            session.events.register_first(f"before-parse.{service}", self._note)

    def _note(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        headers = {
            str(name).lower(): str(value) for name, value in response_dict["headers"].items()
        }
        self.note(operation_model.service_model.service_name, headers.get("date", ""))

    def note(self, service: str, date: str) -> None:
        """Take in one answer.

        Args:
            service: who answered.
            date: the header of that name; whole seconds, rounded down.
        """
        self.services.add(service)
        stated = date_seconds(date)
        if stated is not None:
            self._offsets[service].append(self._clock() - stated - 0.5)

    def offset_seconds(self) -> float | None:
        """Give by how much this machine's clock is ahead; None where nobody told the time."""
        offsets = [each for offsets in self._offsets.values() for each in offsets]
        return statistics.median(offsets) if offsets else None
