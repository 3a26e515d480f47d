"""Carry calls to a simulated service and answers back, not always both."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from tests.simulation.faults import Faults, OutcomeKind
from tests.simulation.malformed import malformed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SimulatedNetwork:
    """Stand between the callers and one service.

    Args:
        service: "sqs" or "dynamodb".
        faults: What goes wrong.
        make_error: Makes a ClientError of the service from operation, code and status.
        throttling_codes: What the service answers when it throttles.
    """

    def __init__(
        self,
        service: str,
        faults: Faults,
        make_error: Callable[[str, str, int], ClientError],
        throttling_codes: tuple[str, ...],
    ) -> None:
        self._service = service
        self._endpoint_url = f"https://{service}.eu-west-1.amazonaws.com/"
        self._faults = faults
        self._make_error = make_error
        self._throttling_codes = throttling_codes

    async def call(self, operation: str, effect: Callable[[], T], resource: str = "") -> T:
        """Do `effect` at the service, between the way there and the way back."""
        kind = self._faults.kind(self._service)
        await self.send(operation, kind, effect, resource)
        answer = effect()
        await self.answer(operation, kind)
        return self.spoiled(operation, answer)

    def spoiled(self, operation: str, answer: T) -> T:
        """Return the response as the caller gets it, now and then malformed."""
        if not isinstance(answer, dict) or not self._faults.happens("malformed"):
            return answer
        spoiled: Any = malformed(operation, answer, self._faults.random)
        return spoiled  # type: ignore[no-any-return] # it pretends to be one

    async def send(
        self, operation: str, kind: OutcomeKind, effect: Callable[[], object], resource: str = ""
    ) -> None:
        """Go the way to the service; raise when the call does not get through."""
        try:
            await asyncio.sleep(self._faults.latency())
        except asyncio.CancelledError:
            self.land_later(effect)
            raise
        if kind is OutcomeKind.THROTTLED:
            code = self._faults.random.choice(self._throttling_codes)
            raise self._make_error(operation, code, 400)
        if kind is OutcomeKind.FAILED_BEFORE:
            self._fail(operation)
        if kind is OutcomeKind.LOST_BEFORE:
            await self._lose(effect)
        refusal = self._faults.denied(self._service, operation, resource)
        if refusal is not None:
            raise self._make_error(operation, refusal, 400)

    async def answer(self, operation: str, kind: OutcomeKind) -> None:
        """Go the way back; raise when the caller does not learn what was done."""
        await asyncio.sleep(self._faults.latency())
        if kind is OutcomeKind.FAILED_AFTER:
            self._fail(operation)
        if kind is OutcomeKind.LOST_AFTER:
            await self._lose(None)

    def land_later(self, effect: Callable[[], object]) -> None:
        """Let a call that its caller gave up take effect after all, now and then."""
        if self._faults.happens("late_landing"):
            delay = self._faults.up_to(self._faults.durations.late_landing_seconds)
            asyncio.get_running_loop().call_later(delay, _land, effect)

    def _fail(self, operation: str) -> NoReturn:
        code, status = self._faults.random.choice(
            [("InternalServerError", 500), ("ServiceUnavailable", 503), ("500", 500)]
        )
        raise self._make_error(operation, code, status)

    async def _lose(self, effect: Callable[[], object] | None) -> NoReturn:
        kind = self._faults.random.randrange(3)
        if kind == 0:
            raise ConnectionClosedError(endpoint_url=self._endpoint_url)
        if kind == 1 and effect:
            if self._faults.coin():
                raise EndpointConnectionError(endpoint_url=self._endpoint_url, error="refused")
            raise ConnectTimeoutError(endpoint_url=self._endpoint_url)
        if effect:
            self.land_later(effect)
        await asyncio.sleep(self._faults.durations.answer_timeout_seconds)
        raise ReadTimeoutError(endpoint_url=self._endpoint_url, error="no answer")


def _land(effect: Callable[[], object]) -> None:
    with suppress(ClientError):
        effect()
