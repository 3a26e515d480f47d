"""ECS: who the task is, and its protection from scale-in while it holds messages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import structlog

from worker.observability.service_status import ServiceStatus
from worker.runtime.redaction import digest, error_text

_log: Final = structlog.get_logger()
_IDENTITY_SECONDS: Final = 1.0
_ANSWER_MAX_BYTES: Final = 1_048_576
_CALL_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 30.0
# Of a lull: releasing at once would ask for protection again with the next message.
_QUIET_SECONDS: Final = 60.0

# Amazon ECS developer guide, "Task metadata endpoint version 4", and the names in logs.
_IDENTITY: Final = {
    "TaskARN": "task_arn",
    "Family": "task_family",
    "Revision": "task_revision",
    "Cluster": "cluster",
    "AvailabilityZone": "availability_zone",
}


async def identity(metadata_uri: str) -> dict[str, str]:
    """Ask the agent who this task is.

    Args:
        metadata_uri: `$ECS_CONTAINER_METADATA_URI_V4`.

    Returns:
        Fields for every line of the log; none when the agent does not answer within a second.
    """
    try:
        async with (
            asyncio.timeout(_IDENTITY_SECONDS),
            aiohttp.ClientSession() as session,
            session.get(f"{metadata_uri}/task") as response,
        ):
            response.raise_for_status()
            answer = json.loads(await response.content.read(_ANSWER_MAX_BYTES))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        _log.warning("the ECS agent does not say which task this is", error=error_text(error))
        return {}
    return _named(answer)


def _named(answer: Any) -> dict[str, str]:
    if not isinstance(answer, dict):
        return {}
    fields = {
        name: str(answer[key])[:2048]
        for key, name in _IDENTITY.items()
        if isinstance(answer.get(key), str | int)
    }
    if "task_arn" in fields:
        fields["task_id"] = fields["task_arn"].rpartition("/")[2]
    return fields


class ScaleInProtection:
    """Keep ECS from stopping a task that holds messages, by a few calls however many there are.

    Asked for when messages are held, renewed at its half, released after a minute without any.

    Args:
        agent_uri: `$ECS_AGENT_URI`.
        view: tells what is held, and for how long to protect.
        clock: gives seconds that only grow.
    """

    def __init__(
        self, agent_uri: str, view: ServiceStatus, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = f"{agent_uri}/task-protection/v1/state"
        self._view = view
        self._minutes = view.settings.ecs_protection_minutes
        self._clock = clock
        self._received = 0
        self._busy_at = float("-inf")
        self._protected_at: float | None = None
        self._retry_at = float("-inf")
        self._failed = False

    async def run(self) -> None:
        """Ask until cancelled; what then remains ends by itself when it expires."""
        timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not self._view.stopping.is_set():
                wanted = self.wanted()
                if wanted is not None:
                    self.learn(wanted=wanted, failure=await self._put(session, protect=wanted))
                await asyncio.sleep(_TURN_SECONDS)

    def wanted(self) -> bool | None:
        """Say whether to ask for protection or for its end now; None for neither."""
        now, accounting = self._clock(), self._view.metrics.accounting
        if accounting.held or accounting.received != self._received:
            self._received, self._busy_at = accounting.received, now
        if now < self._retry_at:
            return None
        if now - self._busy_at < _QUIET_SECONDS:
            since = self._protected_at
            return True if since is None or now - since >= self._minutes * 30 else None
        return None if self._protected_at is None else False

    def learn(self, *, wanted: bool, failure: str | None) -> None:
        """Take in what the agent answered; failures are told once until it works again."""
        if failure is None:
            self._protected_at = self._clock() if wanted else None
            self._failed = False
            return
        self._retry_at = self._clock() + _RETRY_SECONDS
        if not self._failed:
            self._failed = True
            _log.warning("ECS does not change the protection", wanted=wanted, error=failure)

    async def _put(self, session: aiohttp.ClientSession, *, protect: bool) -> str | None:
        state: dict[str, Any] = {"ProtectionEnabled": protect}
        if protect:
            state["ExpiresInMinutes"] = self._minutes
        try:
            async with session.put(self._url, json=state) as response:
                answer = json.loads(await response.content.read(_ANSWER_MAX_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return error_text(error)
        # It tells some failures in an answer of status 200.
        refused = isinstance(answer, dict) and (answer.get("error") or answer.get("failure"))
        if refused:
            return _reason(refused)
        return None if response.ok else f"HTTP {response.status}"


def _reason(refused: Any) -> str:
    """Return the agent's own words, or the digest of what is none."""
    names = ("Code", "Message", "Reason", "Detail")
    words = [refused.get(name) for name in names] if isinstance(refused, dict) else []
    said = [" ".join(each.split())[:250] for each in words if isinstance(each, str)]
    return ": ".join(said) or f"unreadable: {digest(str(refused))}"
