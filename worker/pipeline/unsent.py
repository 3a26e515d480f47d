"""Dead letters that could not be sent, for readiness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from worker.errors import AWSError, AWSRejectedError

# A returned message is received again after its delay, and attempted soon after that.
_MARGIN_SECONDS: Final = 60.0
_MESSAGES_MAX: Final = 10_000


class UnsentDeadLetters:
    """Messages whose dead letters could not be sent, until they are due to be received again.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Time at which each is removed, and its error; the latest failure last.
        self._unsent: dict[str, tuple[float, AWSError]] = {}

    def failed(self, message_id: str, error: AWSError, delay_seconds: float) -> None:
        """Add a message whose dead letter was not sent and that is returned with a delay."""
        self._unsent.pop(message_id, None)
        if len(self._unsent) >= _MESSAGES_MAX:
            del self._unsent[next(iter(self._unsent))]
        until = self._clock() + delay_seconds + _MARGIN_SECONDS
        self._unsent[message_id] = until, error

    def sent(self, message_id: str) -> None:
        """Remove a message whose dead letter was sent, and all that did not fail by rejection."""
        if not self._unsent:
            return
        self._unsent.pop(message_id, None)
        self._unsent = {
            each: (until, error)
            for each, (until, error) in self._unsent.items()
            if isinstance(error, AWSRejectedError)
        }

    @property
    def problem(self) -> str:
        """Number of dead letters that cannot be sent, with the latest error; empty if none."""
        now = self._clock()
        self._unsent = {each: unsent for each, unsent in self._unsent.items() if now < unsent[0]}
        if not self._unsent:
            return ""
        _, latest = next(reversed(self._unsent.values()))
        return f"{len(self._unsent)} dead letters cannot be sent: {latest}"
