"""Access to AWS: the operations that the worker needs, and harmless probes of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from worker.errors import AWSError


class Operation(StrEnum):
    """An operation that needs a permission of its own."""

    RECEIVE = "receive"
    DELETE = "delete"
    VISIBILITY = "change visibility"
    DEAD_LETTER = "send dead letter"
    READ_POLICY = "read policy"
    LOOK_UP = "look up acceptance"
    WRITE = "write acceptance"


class CallObserver(Protocol):
    """Observer of every call's result."""

    def observe(self, operation: Operation, results: Sequence[object], /) -> None:
        """Process the results of one call: an AWSError for each entry that failed."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Call that changes nothing and tests whether an operation is permitted.

    AWS checks permissions before it validates a well-formed request. An error about the request
    itself therefore means that the call is permitted.

    Attributes:
        action: IAM action that the operation needs.
        target: Queue or table, such as `queue aup-acceptances`.
        attempt: Makes the call; raises AWSError.
    """

    operation: Operation
    action: str
    target: str
    attempt: Callable[[], Awaitable[object]]

    async def error(self) -> AWSError | None:
        """Make the call and return its error, or None."""
        try:
            await self.attempt()
        except AWSError as error:
            return error
        return None
