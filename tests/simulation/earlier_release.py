"""Records of an earlier release: the rule of format 1, and a repository that writes it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from worker.repository import AUPRepository, RecordResult
from worker.repository.acceptances import Acceptances
from worker.repository.writes import Inserted
from worker.runtime.retry import retry

if TYPE_CHECKING:
    from worker.domain.acceptance import Acceptance
    from worker.domain.origin import Origin
    from worker.domain.policy import Policy, PolicyText

_ERASABLE = ("ip", "user_agent", "session_id")
_HIDDEN = frozenset({"record_sha256", *_ERASABLE, *(f"{name}_salt" for name in _ERASABLE)})

_STATED = (
    "event_id", "user_id", "policy_id", "version", "accepted_at", "content_sha256", "locale",
    "method", "channel", "on_behalf_of", *_ERASABLE,
)  # fmt: skip


def item_of_format_1(
    stated: Mapping[str, str], received_at: datetime, recorded_at: datetime
) -> dict[str, Any]:
    """Return a record as releases before 0.3 wrote it, without reductions.

    Args:
        stated: Fields of the acceptance; all unknown ones in `extra`.
        received_at: Time when SQS accepted the message.
        recorded_at: Current time.
    """
    item: dict[str, Any] = dict(stated)
    if "extra" in stated:  # numbers were read as doubles
        item["extra"] = json.dumps(
            json.loads(stated["extra"]), ensure_ascii=False, separators=(",", ":")
        )
    item["policy_version"] = f"{stated['policy_id']}#{stated['version']}"
    item["received_at"] = _timestamp(received_at)
    item["recorded_at"] = _timestamp(recorded_at)
    item["record_format"] = "1"
    item["record_id"] = os.urandom(8).hex()
    for name in _ERASABLE:
        if name in stated:
            salt = os.urandom(16)
            item[f"{name}_salt"] = salt
            item[f"{name}_commitment"] = hmac.digest(
                salt, f"{name}\0{stated[name]}".encode(), "sha256"
            )
    item["record_sha256"] = sha256_of_format_1(item)
    return item


def sha256_of_format_1(item: Mapping[str, Any]) -> str:
    """Return the hash of a record of format 1."""
    hashed = {
        name: value if isinstance(value, str) else bytes(value).hex()
        for name, value in item.items()
        if name not in _HIDDEN
    }
    text = json.dumps(hashed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def _content(fields: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: fields[name] for name in _STATED if name in fields}
    return {**content, "extra": json.loads(fields.get("extra", "{}"))}


class _EarlierAcceptances(Acceptances):
    """Table of acceptances that writes format 1."""

    async def record(
        self, acceptance: Acceptance, _text: PolicyText, origin: Origin | None = None
    ) -> RecordResult:
        assert origin is not None
        stated = acceptance.stated()
        item = item_of_format_1(stated, origin.received_at, self._now())
        deadline = self._loop.time() + self._settings.call_timeout_seconds
        if await retry(self._retries, self._writes.submit, item, until=deadline) is Inserted.NEW:
            return RecordResult.RECORDED
        existing = await self._existing(item)
        if existing.get("record_id") == item["record_id"]:
            return RecordResult.RECORDED
        same_event = existing.get("event_id") == item["event_id"]
        if same_event and _content(existing) != _content(item):
            return RecordResult.CONFLICT
        return RecordResult.DUPLICATE


class EarlierRepository(AUPRepository):
    """Repository of an earlier release: it writes format 1 and knows one text of a version."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._acceptances = _EarlierAcceptances(self.tables, self._acceptances._now)

    def known_policy(self, policy_id: str, version: str) -> Policy | None:
        """Return a cached version with its default text alone."""
        policy = super().known_policy(policy_id, version)
        return policy and policy.model_copy(update={"texts": ()})

    async def policy(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        """Return a published version with its default text alone."""
        policy = await super().policy(policy_id, version, recheck=recheck)
        return policy and policy.model_copy(update={"texts": ()})
