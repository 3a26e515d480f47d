"""Counters of requests, connections, items and messages since the last reset."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.stub.messages import Messages

_CHUNK_BYTES: Final = 65_536
_NOT_DELIVERED: Final = 0.0


@dataclass(frozen=True)
class Conditions:
    """Messages and latencies of a stub.

    Attributes:
        messages: Number of messages; more can be added later.
        message_bytes: Length of a body.
        unknown_fields: Whether fields of many types, which no acceptance has, fill the body.
        sqs_latency_seconds: Latency of every SQS response.
        dynamodb_latency_seconds: Latency of every DynamoDB response.
    """

    messages: int = 0
    message_bytes: int = 410
    unknown_fields: bool = False
    sqs_latency_seconds: float = 0.0
    dynamodb_latency_seconds: float = 0.0


class Tally:
    """Messages and counters.

    Args:
        conditions: Messages and latencies.
    """

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self.offered = conditions.messages
        self.calls: Counter[str] = Counter()
        self.connections = 0
        self.tls_handshakes = 0
        self.items_written = 0
        self.items_weighed = 0
        self.units_weighed = 0
        self.sqs_request_units = 0
        self.settled = 0
        self.settled_twice = 0
        self.first_poll_at: float | None = None
        self.last_settled_at: float | None = None
        self._messages = Messages(
            conditions.message_bytes, unknown_fields=conditions.unknown_fields
        )
        self._delivered_at = array("d")
        self._settle_seconds = array("f")
        self._cpu_before = time.process_time()

    @property
    def delivered(self) -> int:
        """Number of messages delivered so far."""
        return len(self._delivered_at)

    def deliver(self, most: int) -> bytes | None:
        """Return a response with up to `most` messages, or None if there are none."""
        first = len(self._delivered_at)
        count = min(most, self.offered - first)
        if count <= 0:
            return None
        response = self._messages.render(first, count)
        self.sqs_request_units += math.ceil(count * self._messages.message_bytes / _CHUNK_BYTES)
        self._delivered_at.extend([time.monotonic()] * count)
        return response

    def settle(self, numbers: Iterable[int]) -> None:
        """Count deleted messages.

        Raises:
            IndexError: One of them was never delivered.
        """
        now = time.monotonic()
        delivered_at = self._delivered_at
        for number in numbers:
            then = delivered_at[number]
            if then == _NOT_DELIVERED:
                self.settled_twice += 1
                continue
            delivered_at[number] = _NOT_DELIVERED
            self._settle_seconds.append(now - then)
            self.settled += 1
        self.last_settled_at = now

    def figures(self, since: int = 0) -> dict[str, Any]:
        """Return all counters.

        Args:
            since: Number of settled messages to exclude from the percentiles.
        """
        return {
            "at": time.monotonic(),
            "calls": dict(self.calls),
            "connections": self.connections,
            "tls_handshakes": self.tls_handshakes,
            "offered": self.offered,
            "delivered": self.delivered,
            "settled": self.settled,
            "settled_twice": self.settled_twice,
            "items_written": self.items_written,
            "items_weighed": self.items_weighed,
            "units_weighed": self.units_weighed,
            "sqs_request_units": self.sqs_request_units,
            "first_poll_at": self.first_poll_at,
            "last_settled_at": self.last_settled_at,
            "stub_cpu_seconds": time.process_time() - self._cpu_before,
            **_percentiles(self._settle_seconds[since:]),
        }


def _percentiles(seconds: array[float]) -> dict[str, float | None]:
    ordered = sorted(seconds)
    if not ordered:
        return {"p50_seconds": None, "p99_seconds": None}
    return {
        "p50_seconds": nearest_rank(ordered, 0.5),
        "p99_seconds": nearest_rank(ordered, 0.99),
    }


def nearest_rank(ordered: list[float], share: float) -> float:
    """Return the smallest value that a share of all values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
