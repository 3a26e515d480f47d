"""Samples of workers from their `/metrics` endpoints."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final

from worker.domain.outcome import OutcomeKind
from worker.errors import UsageError
from worker.runtime.http import request

_RESPONSE_TIMEOUT_SECONDS: Final = 2.0
_ADDRESS: Final = re.compile(
    r"(\[(?P<ipv6>[^/@?#\[\] ]*:[^/@?#\[\] ]*)\]|(?P<host>[^/@?#\[\] :]+)):(?P<port>[0-9]{1,6})"
)
_PORT_MAX: Final = 65_535
_NOT_A_WORKER: Final = "is not this service's health endpoint"
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - requested, not bound


def format_address(host: str, port: int) -> str:
    """Return the address of a worker from its AUP_HEALTH_HOST and AUP_HEALTH_PORT."""
    host = _LOOPBACK.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> str:
    """Parse the address of a worker.

    Args:
        text: HOST:PORT; an IPv6 address is in brackets.

    Returns:
        HOST:PORT, with the loopback address in place of a wildcard address.

    Raises:
        UsageError: The text is not an address.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or not 1 <= int(found["port"]) <= _PORT_MAX:
        raise UsageError(f"--worker {text}: must be HOST:PORT, for example 127.0.0.1:8080")
    return format_address(found["ipv6"] or found["host"], int(found["port"]))


@dataclass(frozen=True, slots=True)
class Sample:
    """Metrics and readiness of one worker.

    Attributes:
        address: HOST:PORT of the worker.
        at_seconds: Monotonic time of the sample.
        problem: Why there are no metrics; empty if there are.
        version: Version of the worker.
        settled: Messages settled since its start, by outcome.
        held: Messages received and not settled yet.
        ready: Whether the worker receives messages.
        reasons: Why the worker is not ready.
    """

    address: str
    at_seconds: float
    problem: str = ""
    version: str = ""
    settled: Mapping[OutcomeKind, float] = field(default_factory=dict)
    held: int = 0
    ready: bool = False
    reasons: tuple[str, ...] = ()

    def rates(self, earlier: Sample | None) -> dict[OutcomeKind, float] | None:
        """Return the messages settled per second since an earlier sample, by outcome.

        Returns:
            None if one of the samples has no metrics, or the worker was restarted between them.
        """
        if earlier is None or earlier.problem or self.problem:
            return None
        seconds = self.at_seconds - earlier.at_seconds
        increases = {kind: self.settled[kind] - earlier.settled[kind] for kind in OutcomeKind}
        if seconds <= 0 or min(increases.values()) < 0:
            return None
        return {kind: count / seconds for kind, count in increases.items()}


async def scrape(address: str, clock: Callable[[], float] = time.monotonic) -> Sample:
    """Return a sample of one worker; errors are in `Sample.problem`.

    Args:
        address: HOST:PORT of the worker.
        clock: Returns monotonic time in seconds.
    """
    try:
        status, body = await request("GET", f"http://{address}/metrics", _RESPONSE_TIMEOUT_SECONDS)
        if status != HTTPStatus.OK:
            return Sample(address, clock(), problem=_NOT_A_WORKER)
        sample = _parse(address, clock(), body.decode())
        if sample.ready:
            return sample
        _, body = await request("GET", f"http://{address}/readyz", _RESPONSE_TIMEOUT_SECONDS)
        return _with_reasons(sample, body)
    except ConnectionError as error:
        return Sample(address, clock(), problem=str(error))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Sample(address, clock(), problem=_NOT_A_WORKER)


async def scrape_all(
    addresses: list[str], clock: Callable[[], float] = time.monotonic
) -> list[Sample]:
    """Return samples of all workers, requested concurrently."""
    return list(await asyncio.gather(*(scrape(each, clock) for each in addresses)))


def _parse(address: str, now: float, text: str) -> Sample:
    # Imported only when workers are requested: loading takes time.
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    values: dict[tuple[str, str], float] = {}
    version = ""
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            values[each.name, each.labels.get("outcome", "")] = each.value
            if each.name == "aup_build_info":
                version = each.labels["version"]
    return Sample(
        address=address,
        at_seconds=now,
        version=version,
        settled={kind: values["aup_messages_settled_total", kind.value] for kind in OutcomeKind},
        held=int(values["aup_messages_held", ""]),
        ready=values["aup_ready", ""] == 1,
    )


def _with_reasons(sample: Sample, body: bytes) -> Sample:
    report: Any = json.loads(body)
    reasons = tuple(str(each) for each in report["reasons"])
    return replace(sample, ready=report["ready"] is True, reasons=reasons)
