"""Network between callers and a simulated service, which may lose requests and responses."""

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

from tests.simulation.faults import CallOutcome, Faults
from tests.simulation.malformed import malformed

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class SimulatedNetwork:
    """Network in front of one service.

    Args:
        service: "sqs" or "dynamodb".
        faults: Faults to inject.
        make_error: Returns a ClientError of the service from operation, code and status.
        throttling_codes: Error codes of throttled calls.
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
        """Send the request, apply `effect` at the service and return its response."""
        outcome = self._faults.outcome(self._service)
        await self.send(operation, outcome, effect, resource)
        response = effect()
        await self.respond(operation, outcome)
        return self.delivered(operation, response)

    def delivered(self, operation: str, response: T) -> T:
        """Return the response as the caller receives it, sometimes malformed."""
        if not isinstance(response, dict) or not self._faults.happens("malformed"):
            return response
        delivered: Any = malformed(operation, response, self._faults.random)
        return delivered  # type: ignore[no-any-return] # malformed on purpose

    async def send(
        self, operation: str, outcome: CallOutcome, effect: Callable[[], object], resource: str = ""
    ) -> None:
        """Send the request; raise if it does not take effect."""
        try:
            await asyncio.sleep(self._faults.latency())
        except asyncio.CancelledError:
            self.apply_later(effect)
            raise
        if outcome is CallOutcome.THROTTLED:
            code = self._faults.random.choice(self._throttling_codes)
            raise self._make_error(operation, code, 400)
        if outcome is CallOutcome.FAILED_BEFORE:
            self._fail(operation)
        if outcome is CallOutcome.LOST_BEFORE:
            await self._lose(effect)
        denial_code = self._faults.denied(self._service, operation, resource)
        if denial_code is not None:
            raise self._make_error(operation, denial_code, 400)

    async def respond(self, operation: str, outcome: CallOutcome) -> None:
        """Send the response; raise if the caller does not receive it."""
        await asyncio.sleep(self._faults.latency())
        if outcome is CallOutcome.FAILED_AFTER:
            self._fail(operation)
        if outcome is CallOutcome.LOST_AFTER:
            await self._lose(None)

    def apply_later(self, effect: Callable[[], object]) -> None:
        """Apply an abandoned call later, sometimes."""
        if self._faults.happens("delayed_effect"):
            delay = self._faults.up_to(self._faults.durations.delayed_effect_seconds)
            asyncio.get_running_loop().call_later(delay, _apply, effect)

    def _fail(self, operation: str) -> NoReturn:
        code, status = self._faults.random.choice(
            [("InternalServerError", 500), ("ServiceUnavailable", 503), ("500", 500)]
        )
        raise self._make_error(operation, code, status)

    async def _lose(self, effect: Callable[[], object] | None) -> NoReturn:
        outcome = self._faults.random.randrange(3)
        if outcome == 0:
            raise ConnectionClosedError(endpoint_url=self._endpoint_url)
        if outcome == 1 and effect:
            if self._faults.coin():
                raise EndpointConnectionError(endpoint_url=self._endpoint_url, error="refused")
            raise ConnectTimeoutError(endpoint_url=self._endpoint_url)
        if effect:
            self.apply_later(effect)
        await asyncio.sleep(self._faults.durations.response_timeout_seconds)
        raise ReadTimeoutError(endpoint_url=self._endpoint_url, error="no response")


def _apply(effect: Callable[[], object]) -> None:
    with suppress(ClientError):
        effect()
