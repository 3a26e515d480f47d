"""ECS: identity of the task, and scale-in protection while it holds messages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import structlog

from worker.observability.service_status import ServiceStatus
from worker.runtime.http import get_json, request
from worker.runtime.redaction import digest, error_text

_log: Final = structlog.get_logger()
_IDENTITY_SECONDS: Final = 1.0
_CALL_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 30.0
# Without messages; releasing at once would request protection again for the next message.
_IDLE_SECONDS: Final = 60.0
# Under steady traffic a task is never without messages: a deployment would wait for it for hours.
LONGEST_SECONDS: Final = 3600.0
PAUSE_SECONDS: Final = 60.0

# Amazon ECS developer guide, "Task metadata endpoint version 4"; values are names of log fields.
_IDENTITY_FIELDS: Final = {
    "TaskARN": "task_arn",
    "Family": "task_family",
    "Revision": "task_revision",
    "Cluster": "cluster",
    "AvailabilityZone": "availability_zone",
}


async def identity(metadata_uri: str) -> dict[str, str]:
    """Return the identity of this task from the ECS agent.

    Args:
        metadata_uri: `$ECS_CONTAINER_METADATA_URI_V4`.

    Returns:
        Fields for every log line; empty if the agent does not respond within a second.
    """
    try:
        metadata = await get_json(f"{metadata_uri}/task", _IDENTITY_SECONDS)
    except (ConnectionError, ValueError) as error:
        _log.warning("ECS task metadata not available", error=error_text(error))
        return {}
    if not isinstance(metadata, dict):
        return {}
    fields = {
        name: str(metadata[key])[:2048]
        for key, name in _IDENTITY_FIELDS.items()
        if isinstance(metadata.get(key), str | int)
    }
    if "task_arn" in fields:
        fields["task_id"] = fields["task_arn"].rpartition("/")[2]
    return fields


class ScaleInProtection:
    """Scale-in protection of a task that holds messages.

    Requested when messages are held, renewed after half its duration, and released after a minute
    without messages: the number of calls does not depend on the number of messages. After an hour
    it pauses for a minute, in which ECS can stop the task for a deployment or a scale-in that waits
    for it; the task then drains.

    Args:
        agent_uri: `$ECS_AGENT_URI`.
        status: status of the service.
        clock: returns monotonic seconds.
    """

    def __init__(
        self, agent_uri: str, status: ServiceStatus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = f"{agent_uri}/task-protection/v1/state"
        self._status = status
        self._minutes = status.settings.ecs_protection_minutes
        self._clock = clock
        self._received = 0
        self._busy_at = float("-inf")
        self._protected_at: float | None = None
        self._protected_since = float("inf")
        self._retry_at = float("-inf")
        self._failed = False

    async def run(self) -> None:
        """Request and release protection until cancelled; after that it expires."""
        while not self._status.stopping.is_set():
            wanted = self.wanted()
            if wanted is not None:
                self.apply(wanted=wanted, failure=await self._put(protect=wanted))
            await asyncio.sleep(_CHECK_SECONDS)

    def wanted(self) -> bool | None:
        """Return True to request protection now, False to release it, None to do neither."""
        now, accounting = self._clock(), self._status.metrics.accounting
        if accounting.held or accounting.received != self._received:
            self._received, self._busy_at = accounting.received, now
        if now < self._retry_at:
            return None
        if self._is_busy(now) and now - self._protected_since < LONGEST_SECONDS:
            since = self._protected_at
            return True if since is None or now - since >= self._minutes * 30 else None
        return None if self._protected_at is None else False

    def _is_busy(self, now: float) -> bool:
        return now - self._busy_at < _IDLE_SECONDS

    def apply(self, *, wanted: bool, failure: str | None) -> None:
        """Apply the result of a request; log the first of consecutive failures."""
        now = self._clock()
        if failure is None:
            self._protected_at = now if wanted else None
            self._protected_since = min(self._protected_since, now) if wanted else float("inf")
            self._failed = False
            if not wanted and self._is_busy(now):
                self._retry_at = now + PAUSE_SECONDS
            return
        self._retry_at = now + RETRY_SECONDS
        if not self._failed:
            self._failed = True
            _log.warning("scale-in protection not changed", wanted=wanted, error=failure)

    async def _put(self, *, protect: bool) -> str | None:
        state: dict[str, Any] = {"ProtectionEnabled": protect}
        if protect:
            state["ExpiresInMinutes"] = self._minutes
        try:
            status, content = await request("PUT", self._url, _CALL_SECONDS, content=state)
            body = json.loads(content)
        except (ConnectionError, ValueError) as error:
            return error_text(error)
        # Some failures have status 200.
        failure = isinstance(body, dict) and (body.get("error") or body.get("failure"))
        if failure:
            return _reason(failure)
        return None if status == HTTPStatus.OK else f"HTTP {status}"


def _reason(failure: Any) -> str:
    """Return the message of the agent, or a digest of an unknown format."""
    names = ("Code", "Message", "Reason", "Detail")
    texts = [failure.get(name) for name in names] if isinstance(failure, dict) else []
    parts = [" ".join(each.split())[:250] for each in texts if isinstance(each, str)]
    return ": ".join(parts) or f"unreadable: {digest(str(failure))}"
