"""Push messages all the while, as an application would that is none of ours."""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Final

from tests.soak.messages import Author, Sent
from tests.soak.place import SoakPlace

_BATCH: Final = 10
# More would only measure how long the backlog takes.
_BACKLOG_MOST: Final = 600


class Producer:
    """Send in a thread until told to stop.

    Args:
        place: where to.
        rate: messages a second.
        random: chooses the messages.

    Attributes:
        sent: everything that SQS has confirmed.
        failure: why it ended early.
    """

    def __init__(self, place: SoakPlace, rate: float, random: Random) -> None:
        self.sent: list[Sent] = []
        self.failure: Exception | None = None
        self._place = place
        self._interval_seconds = _BATCH / rate
        self._author = Author(random)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End with the batch under way.

        Raises:
            Exception: what ended it early.
        """
        self._stopping.set()
        self._thread.join(30)
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                due = max(due, time.monotonic() - 1.0) + self._interval_seconds
                if self._place.depth() < _BACKLOG_MOST:
                    batch = [self._author.write() for _ in range(_BATCH)]
                    self._place.send(batch)
                    self.sent += batch
        except Exception as error:  # noqa: BLE001 - told by `stop`
            self.failure = error
