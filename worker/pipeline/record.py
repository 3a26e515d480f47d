"""Recording: an acceptance to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog

from worker.aws.access import CallObserver, Probe
from worker.domain import admission
from worker.domain.acceptance import Acceptance
from worker.domain.dead_letter import origin
from worker.domain.message import ReceivedMessage
from worker.domain.origin import Origin
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome
from worker.domain.policy import Policy, PolicyText
from worker.errors import AWSAccessError, AWSError, AWSRejectedError, Reason
from worker.pipeline.service_state import ServiceState
from worker.repository import RecordResult
from worker.runtime.retry import RetryPolicy
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

_log: Final = structlog.get_logger()


class AcceptanceStore(Protocol):
    """Repository of acceptances and policies, as far as the pipeline uses it."""

    def observe(self, observer: CallObserver) -> None:
        """Report the results of all later reads and writes to an observer."""

    def probes(self) -> Sequence[Probe]:
        """Return attempts at the reads and writes that change nothing."""

    def known_policy(self, policy_id: str, version: str) -> Policy | None:
        """Return a published version if it is cached, None if it has to be read."""

    async def policy(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        """Return a published version, None if there is none."""

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin
    ) -> RecordResult:
        """Insert an acceptance unless it is recorded already."""


def hold_retries(settings: Settings) -> RetryPolicy:
    """Return the retry policy of a message that is held while the table fails."""
    return RetryPolicy(base_seconds=settings.backoff_base_seconds, cap_seconds=10.0)


def redeliveries(settings: Settings) -> RetryPolicy:
    """Return the retry policy of a message that is returned to the queue."""
    return RetryPolicy(
        attempts=settings.max_attempts,
        base_seconds=settings.backoff_base_seconds,
        cap_seconds=settings.backoff_cap_seconds,
    )


class Recorder:
    """Writer of acceptances that the rule of admission allows.

    While the table fails, the message stays in flight and is retried, so that its receive count is
    not used up. It is returned to the queue after `hold_seconds`, or when the service stops.

    Args:
        store: The repository.
        state: Informed of every success and failure; ends retries when the service stops.
    """

    def __init__(self, store: AcceptanceStore, state: ServiceState) -> None:
        self._store = store
        self._state = state
        self._settings = state.settings
        self._breaker = state.breaker
        self._events = state.metrics.events
        self._hold_retries = hold_retries(state.settings)
        self._redeliveries = redeliveries(state.settings)
        self._writes_fail = False

    async def record(self, acceptance: Acceptance, message: ReceivedMessage) -> Outcome:
        """Record an acceptance and return the outcome of its message."""
        hold_until = self._state.clock() + self._settings.hold_seconds
        attempt = 0
        # Not `retry`: a stop ends the delay, and each failure and success moves the breaker.
        while True:
            attempt += 1
            is_write = False
            try:
                admitted = self._known_text(acceptance) or await self._admit(acceptance, message)
                if isinstance(admitted, Outcome):
                    outcome = admitted
                else:
                    is_write = True
                    # Awaited here, not in a method: each message passes here.
                    result = await self._store.record(acceptance, admitted, origin(message))
                    self._writes_fail = False
                    outcome = _outcome(result, acceptance)
            except AWSRejectedError as error:
                return self.retry_or_dead_letter(message, f"rejected by the table: {error}")
            except AWSError as error:
                self._writes_fail |= is_write
                self._count_failure(error)
                failure = error
            else:
                # An outcome without a write says nothing about writes, while these fail.
                if not self._writes_fail and self._breaker.succeeded():
                    _log.info("receiving resumed")
                return outcome
            ended = await self._hold(message, failure, attempt, hold_until)
            if ended is not None:
                return ended
            self._state.progressed()

    def retry_or_dead_letter(self, message: ReceivedMessage, problem: str) -> Outcome:
        """Return a message to the queue with backoff, or dead-letter it at its last receive."""
        if message.receive_count >= self._settings.max_attempts:
            return Outcome.dead_lettered(
                Reason.EXHAUSTED, f"failed in {message.receive_count} receives: {problem}"
            )
        return self._retry(message, problem)

    def _known_text(self, acceptance: Acceptance) -> PolicyText | None:
        """Return the text that was accepted, None if that takes a read or it is refused."""
        policy = self._store.known_policy(acceptance.policy_id, acceptance.version)
        if policy is None:
            return None
        admitted = admission.admit(acceptance, policy)
        if isinstance(admitted, Outcome) or not admission.is_final(acceptance, admitted):
            return None
        return admitted

    async def _admit(
        self, acceptance: Acceptance, message: ReceivedMessage
    ) -> PolicyText | Outcome:
        policy = await self._store.policy(acceptance.policy_id, acceptance.version)
        admitted = admission.admit(acceptance, policy)
        if policy is not None and not admission.is_final(acceptance, admitted):
            # The text may be newer than the cached policy.
            policy = await self._store.policy(
                acceptance.policy_id, acceptance.version, recheck=True
            )
            admitted = admission.admit(acceptance, policy)
        if policy is None and isinstance(admitted, Outcome):
            return self._await_publication(message, admitted)
        return admitted

    def _await_publication(self, message: ReceivedMessage, refusal: Outcome) -> Outcome:
        """Return a message to the queue until its version is published or is overdue."""
        delay = admission.publication_delay(
            message,
            now=self._state.sqs_clock.now(),  # it decides, not this host
            limit_seconds=self._settings.unknown_policy_seconds,
            max_attempts=self._settings.max_attempts,
            backoff_seconds=self._backoff_seconds(message),
        )
        if delay is None:
            return refusal
        self._events["unknown_policy_waits"] += 1
        return Outcome.returned(refusal.detail, delay)

    async def _hold(
        self, message: ReceivedMessage, failure: AWSError, failures: int, until: float
    ) -> Outcome | None:
        """Wait before the next attempt; return the outcome if there is to be none."""
        delay = self._hold_retries.delay_seconds(failures)
        if self._state.clock() + delay >= until:
            return self._hold_expired(message, failure)
        await unless_stopped(self._state.stopping, asyncio.sleep(delay))
        if self._state.stopping.is_set():
            return Outcome.returned(f"stopping: {failure}")
        return None

    def _hold_expired(self, message: ReceivedMessage, failure: AWSError) -> Outcome:
        if isinstance(failure, AWSAccessError):
            return self._retry(message, str(failure))  # not the message's fault
        return self.retry_or_dead_letter(message, str(failure))

    def _retry(self, message: ReceivedMessage, problem: str) -> Outcome:
        return Outcome.returned(problem, self._backoff_seconds(message))

    def _backoff_seconds(self, message: ReceivedMessage) -> float:
        return self._redeliveries.delay_seconds(message.receive_count)

    def _count_failure(self, error: AWSError) -> None:
        self._events["table_failures"] += 1
        if self._breaker.failed():
            _log.warning("receiving paused: the table is failing", error=str(error))


def _outcome(result: RecordResult, acceptance: Acceptance) -> Outcome:
    if result is RecordResult.CONFLICT:
        return Outcome.dead_lettered(
            Reason.CONFLICT,
            f"event_id {acceptance.event_id} is recorded already with other content",
        )
    return RECORDED if result is RecordResult.RECORDED else DUPLICATE
