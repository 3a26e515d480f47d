"""Producer that sends messages continuously, without code of the worker."""

from __future__ import annotations

import threading
import time
from random import Random
from typing import Final

from tests.soak.environment import SoakEnvironment
from tests.soak.messages import MessageGenerator, SentMessage

_BATCH: Final = 10
# A larger backlog would only prolong the drain.
_MAX_BACKLOG: Final = 600


class Producer:
    """Thread that sends messages until stopped.

    Args:
        environment: where to.
        rate: Messages per second.
        random: Source of the messages.

    Attributes:
        sent: Messages that SQS has confirmed.
        failure: Error that ended it early.
    """

    def __init__(self, environment: SoakEnvironment, rate: float, random: Random) -> None:
        self.sent: list[SentMessage] = []
        self.failure: Exception | None = None
        self._place = environment
        self._interval_seconds = _BATCH / rate
        self._generator = MessageGenerator(random)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="producer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current batch.

        Raises:
            Exception: The error that ended it early.
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
                if self._place.depth() < _MAX_BACKLOG:
                    batch = [self._generator.generate() for _ in range(_BATCH)]
                    self._place.send(batch)
                    self.sent += batch
        except Exception as error:  # noqa: BLE001 - raised by `stop`
            self.failure = error
