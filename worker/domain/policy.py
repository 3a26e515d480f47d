"""Published policy versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from worker.domain.identifiers import PolicyId, Version


class Policy(BaseModel):
    """A policy version: its text never changes, but it can be retired.

    Times are aware. A version is in force from `effective_at` until `retired_at`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    policy_id: PolicyId
    version: Version
    title: Annotated[str, Field(max_length=1024)]
    content_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    published_at: AwareDatetime
    effective_at: AwareDatetime
    retired_at: AwareDatetime | None = None

    def in_force_at(self, moment: datetime) -> bool:
        """Return whether this version is in force at a time."""
        return self.effective_at <= moment and (self.retired_at is None or moment < self.retired_at)

    def same_text(self, other: Policy) -> bool:
        """Return whether both have the same ids, title and text, regardless of times."""
        compared = {"policy_id", "version", "title", "content_sha256"}
        return self.model_dump(include=compared) == other.model_dump(include=compared)


def in_force(policies: list[Policy], moment: datetime) -> Policy | None:
    """Return the version in force: of those not retired, the one that became effective last."""
    candidates = [policy for policy in policies if policy.in_force_at(moment)]
    return max(candidates, key=lambda policy: (policy.effective_at, policy.version), default=None)
