"""Dry run: whether a message would be recorded now, according to its content and the policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from worker.domain import admission
from worker.domain.message import OutgoingMessage
from worker.domain.policy import Policy, PolicyText
from worker.errors import AWSError, Reason, RefusedError
from worker.operations.dead_letters.dead_letter import DeadLetter

SUCCEEDS: Final = "would succeed"
UNCHECKED: Final = "unchecked"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Predicted outcome of a message.

    Attributes:
        code: `SUCCEEDS`, the reason why it would be dead-lettered again, or `UNCHECKED`.
        detail: One line for a person, empty if it succeeds.
    """

    code: str
    detail: str = ""

    @property
    def is_dead_end(self) -> bool:
        """Whether the message would be dead-lettered again."""
        return self.code not in {SUCCEEDS, UNCHECKED}


class DryRun:
    """Prediction of outcomes by the worker's rule of admission; reads each version once.

    Args:
        find_policy: Returns a published version of a policy; None if it is not published.
        clock_skew_seconds: How far in the future `accepted_at` may be.
        now: Returns the current time, aware.

    Attributes:
        error: Why the policies cannot be read; empty if they can.
    """

    def __init__(
        self,
        find_policy: Callable[[str, str], Awaitable[Policy | None]],
        *,
        clock_skew_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self.error = ""
        self._find_policy = find_policy
        self._skew_seconds = clock_skew_seconds
        self._now = now
        self._known: dict[tuple[str, str], Policy | None] = {}

    async def check(self, body: str, *, sent_at: datetime | None = None) -> Verdict:
        """Return the predicted outcome of a message.

        Args:
            body: Body of the message to send.
            sent_at: When SQS received it, in case this host's clock is behind.
        """
        clocks = [self._now()] if sent_at is None else [self._now(), sent_at]
        try:
            acceptance = admission.read(body, clocks, clock_skew_seconds=self._skew_seconds)
        except RefusedError as refused:
            return Verdict(refused.reason.value, refused.detail)
        key = (acceptance.policy_id, acceptance.version)
        if not await self._read(key):
            return Verdict(UNCHECKED, "the message is valid, but the policies cannot be read")
        admitted = admission.admit(acceptance, self._known[key])
        if isinstance(admitted, PolicyText) or admitted.reason is None:
            return Verdict(SUCCEEDS)
        return Verdict(admitted.reason.value, admitted.detail)

    async def predict(self, dead_letter: DeadLetter, message: OutgoingMessage) -> Verdict:
        """Return the predicted outcome of a message that would be sent for a dead letter."""
        unchanged = message.body == dead_letter.message.body
        if unchanged and dead_letter.reason == Reason.CONFLICT:
            # The record that it contradicts is never deleted.
            return Verdict(dead_letter.reason, dead_letter.detail)
        return await self.check(message.body, sent_at=dead_letter.dead_at)

    async def _read(self, key: tuple[str, str]) -> bool:
        if key not in self._known and not self.error:
            try:
                self._known[key] = await self._find_policy(*key)
            except AWSError as error:
                # If one version cannot be read, trying the others would only take time.
                self.error = str(error)
        return key in self._known
