"""The stage that records an acceptance and decides the fate of its delivery."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from math import ceil
from typing import Final, Protocol

import structlog

from worker.aws.access import CallObserver, Probe
from worker.domain.acceptance import Acceptance
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome
from worker.domain.policy import Policy
from worker.errors import AWSAccessError, AWSError, AWSRejectedError, Reason
from worker.pipeline.breaker import Breaker
from worker.pipeline.health import Health
from worker.repository import RecordResult
from worker.runtime.backoff import full_jitter
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

_log: Final = structlog.get_logger()
_HELD_RETRY_CAP_SECONDS: Final = 10.0
# A publication may need more than two looks to be seen: absences are cached.
_UNKNOWN_POLICY_RECEIVES_MIN: Final = 3


class AcceptanceStore(Protocol):
    """What this stage needs of the repository."""

    def observe(self, observer: CallObserver) -> None:
        """Have the results of every read and write from now on observed."""

    def probes(self) -> Sequence[Probe]:
        """Return attempts at the reads and writes that change nothing."""

    async def policy(self, policy_id: str, version: str) -> Policy | None:
        """Give a published version."""

    async def record(
        self, acceptance: Acceptance, *, received_at: datetime | None = None
    ) -> RecordResult:
        """Insert an acceptance once."""


class Recorder:
    """Check an acceptance against its policy and record it.

    While the table fails, the message is held and tried again, so that its receive count is not
    burnt; after `hold_seconds`, or when the service stops, it is returned.

    Args:
        ledger: the repository.
        settings: attempts, delays and times.
        breaker: told of every success and failure.
        health: told of every try.
        stopping: set when the service is to stop.
        now: returns SQS's time, aware: policies are waited for by its clock, not by this host's.
        events: where retries are counted.
    """

    def __init__(
        self,
        store: AcceptanceStore,
        settings: Settings,
        *,
        breaker: Breaker,
        health: Health,
        stopping: asyncio.Event,
        now: Callable[[], datetime],
        events: Counter[str],
    ) -> None:
        self._ledger = store
        self._settings = settings
        self._breaker = breaker
        self._health = health
        self._stopping = stopping
        self._now = now
        self._events = events
        self._clock = asyncio.get_running_loop().time
        self._writes_fail = False

    async def record(self, acceptance: Acceptance, message: ReceivedMessage) -> Outcome:
        """Record, and say what becomes of the delivery."""
        hold_until = self._clock() + self._settings.hold_seconds
        attempt = 0
        while True:
            attempt += 1
            self._health.progressed()
            try:
                outcome = await self._try(acceptance, message)
            except AWSRejectedError as error:
                return self.later_or_dead(message, f"the table does not take it: {error}")
            except AWSError as error:
                self._note_failure(error)
                failure = error
            else:
                # What is decided without a write proves nothing while writes fail.
                if not self._writes_fail and self._breaker.succeeded():
                    _log.info("table works again; receiving goes on")
                return outcome
            delay = full_jitter(
                attempt,
                base_seconds=self._settings.backoff_base_seconds,
                cap_seconds=_HELD_RETRY_CAP_SECONDS,
            )
            if self._clock() + delay >= hold_until:
                return self._held_in_vain(message, failure)
            await unless_stopped(self._stopping, asyncio.sleep(delay))
            if self._stopping.is_set():
                return Outcome.returned(f"stopping: {failure}")

    def _held_in_vain(self, message: ReceivedMessage, failure: AWSError) -> Outcome:
        if isinstance(failure, AWSAccessError):
            return self._later(message, str(failure))  # nothing that a message can help
        return self.later_or_dead(message, str(failure))

    def later_or_dead(self, message: ReceivedMessage, problem: str) -> Outcome:
        """Return a message with backoff, or at its last receive let it die with the reason."""
        if message.receive_count >= self._settings.max_attempts:
            return Outcome.dead_lettered(
                Reason.EXHAUSTED, f"failed in {message.receive_count} receives: {problem}"
            )
        return self._later(message, problem)

    def _later(self, message: ReceivedMessage, problem: str) -> Outcome:
        delay = full_jitter(
            message.receive_count,
            base_seconds=self._settings.backoff_base_seconds,
            cap_seconds=self._settings.backoff_cap_seconds,
        )
        return Outcome.returned(problem, delay_seconds=delay)

    async def _try(self, acceptance: Acceptance, message: ReceivedMessage) -> Outcome:
        policy = await self._ledger.policy(acceptance.policy_id, acceptance.version)
        if policy is None:
            return self._unknown_policy(acceptance, message)
        stated = acceptance.content_sha256
        if stated is not None and stated.lower() != policy.content_sha256:
            return Outcome.dead_lettered(
                Reason.CONTENT_MISMATCH,
                f"content_sha256 is {stated}, but {acceptance.policy_id} {acceptance.version} "
                f"was published with {policy.content_sha256}",
            )
        result = await self._write(acceptance, message)
        if result is RecordResult.CONFLICT:
            return Outcome.dead_lettered(
                Reason.CONFLICT,
                f"event_id {acceptance.event_id} is recorded already with other content",
            )
        return RECORDED if result is RecordResult.RECORDED else DUPLICATE

    async def _write(self, acceptance: Acceptance, message: ReceivedMessage) -> RecordResult:
        try:
            result = await self._ledger.record(acceptance, received_at=message.sent_at)
        except AWSRejectedError:
            raise
        except AWSError:
            self._writes_fail = True
            raise
        self._writes_fail = False
        return result

    def _unknown_policy(self, acceptance: Acceptance, message: ReceivedMessage) -> Outcome:
        problem = f"policy {acceptance.policy_id} has no published version {acceptance.version}"
        since = max(message.first_received_at, message.sent_at)
        waited = (self._now() - since).total_seconds()
        long_enough = (
            waited >= self._settings.unknown_policy_seconds
            and message.receive_count >= _UNKNOWN_POLICY_RECEIVES_MIN
        )
        if long_enough or message.receive_count >= self._settings.max_attempts:
            return Outcome.dead_lettered(Reason.UNKNOWN_POLICY, problem)
        self._events["unknown_policy_waits"] += 1
        later = self._later(message, problem)
        # No wait exceeds the rest of the time, and short draws do not spend every receive before:
        # the last wait is the rest. Upwards, for SQS counts whole seconds.
        left = self._settings.max_attempts - message.receive_count
        rest = max(0.0, self._settings.unknown_policy_seconds - waited)
        delay = min(max(later.delay_seconds, rest / 2 ** (left - 1)), rest)
        return replace(later, delay_seconds=float(ceil(delay)) if delay == rest else delay)

    def _note_failure(self, error: AWSError) -> None:
        self._events["table_failures"] += 1
        if self._breaker.failed():
            _log.warning("table fails; receiving stops until it works", error=str(error))
