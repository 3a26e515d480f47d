"""Whether a message would be recorded now, as far as policies tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from worker.domain.envelope import decode
from worker.domain.policy import Policy
from worker.errors import AWSError, Reason, RefusedError

SUCCEEDS: Final = "would succeed"
UNCHECKED: Final = "unchecked"


class Policies(Protocol):
    """What a forecast needs of the repository."""

    async def policy(self, policy_id: str, version: str) -> Policy | None:
        """Give a published version."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of a message.

    Attributes:
        code: `SUCCEEDS`, the reason why it would die again, or `UNCHECKED`.
        detail: one line for a person, empty if it succeeds.
    """

    code: str
    detail: str = ""

    @property
    def is_dead_end(self) -> bool:
        """Whether the message would be dead-lettered again."""
        return self.code not in {SUCCEEDS, UNCHECKED}


class DryRun:
    """Judge messages as the worker would, asking once for each version.

    Args:
        policies: where published versions are.
        clock_skew_seconds: how far a time may lie in the future.
        now: gives the present time, aware.

    Attributes:
        error: why the policies cannot be read; empty if they can.
    """

    def __init__(
        self, policies: Policies, *, clock_skew_seconds: float, now: Callable[[], datetime]
    ) -> None:
        self.error = ""
        self._policies = policies
        self._skew = clock_skew_seconds
        self._now = now
        self._known: dict[tuple[str, str], Policy | None] = {}

    async def judge(self, body: str, *, sent_at: datetime | None = None) -> Verdict:
        """Return what would become of a body.

        Args:
            body: of the message to send.
            sent_at: when SQS took the message, which this host's clock may lag behind.
        """
        now = self._now() if sent_at is None else max(self._now(), sent_at)
        try:
            acceptance = decode(body, now=now, clock_skew_seconds=self._skew)
        except RefusedError as refused:
            return Verdict(refused.reason.value, refused.detail)
        policy_id, version = acceptance.policy_id, acceptance.version
        if not await self._read(policy_id, version):
            return Verdict(UNCHECKED, "it reads well, but the policies cannot be read")
        policy = self._known[policy_id, version]
        if policy is None:
            return Verdict(
                Reason.UNKNOWN_POLICY.value,
                f"policy {policy_id} has no published version {version}",
            )
        stated = acceptance.content_sha256
        if stated is not None and stated.lower() != policy.content_sha256:
            return Verdict(
                Reason.CONTENT_MISMATCH.value,
                f"content_sha256 is not that of {policy_id} {version}",
            )
        return Verdict(SUCCEEDS)

    async def _read(self, policy_id: str, version: str) -> bool:
        key = (policy_id, version)
        if key not in self._known and not self.error:
            try:
                self._known[key] = await self._policies.policy(*key)
            except AWSError as error:
                # Where one cannot be read, asking for each would only take long.
                self.error = str(error)
        return key in self._known
