"""Workers, seen from outside through their `/metrics`."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp

from worker.domain.outcome import OutcomeKind
from worker.errors import UsageError
from worker.runtime.redaction import error_text

_ANSWER_SECONDS: Final = 2.0
_ANSWER_MAX_BYTES: Final = 1_048_576
_PORT_MAX: Final = 65_535
_FOREIGN: Final = "is not this service's health endpoint"
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened on


def address(host: str, port: int) -> str:
    """Write where a worker is asked, from its AUP_HEALTH_HOST and AUP_HEALTH_PORT."""
    host = _EVERYWHERE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> str:
    """Read where a worker is asked.

    Args:
        text: HOST:PORT; an IPv6 address in brackets.

    Raises:
        UsageError: it is not.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host == f"[{bare}]"
    named = bare and not set(bare) & set("/@?#[] ") and bracketed == (":" in bare)
    known = port.isdecimal() and port.isascii() and 1 <= int(port[:6]) <= _PORT_MAX
    if not (named and known):
        raise UsageError(f"--worker {text}: must be HOST:PORT, such as 127.0.0.1:8080")
    return address(bare, int(port))


@dataclass(frozen=True, slots=True)
class Sample:
    """What one worker told at one moment.

    Attributes:
        address: where it was asked.
        at_seconds: when, on a clock that only grows.
        problem: why it told nothing; empty where it told.
        version: of the worker.
        settled: deliveries settled since its start, by what became of them.
        held: deliveries not settled yet.
        ready: whether it takes in messages.
        reasons: why it does not.
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
        """Give what was settled per second since an earlier sample.

        Returns:
            None where one of them told nothing, or the worker was started anew between them.
        """
        if earlier is None or earlier.problem or self.problem:
            return None
        seconds = self.at_seconds - earlier.at_seconds
        grown = {kind: self.settled[kind] - earlier.settled[kind] for kind in OutcomeKind}
        if seconds <= 0 or min(grown.values()) < 0:
            return None
        return {kind: count / seconds for kind, count in grown.items()}


async def scrape(where: str, clock: Callable[[], float] = time.monotonic) -> Sample:
    """Ask one worker how it gets on; what goes wrong is told in the sample.

    Args:
        where: HOST:PORT.
        clock: gives seconds that only grow.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            status, text = await _get(session, f"http://{where}/metrics")
            now = clock()
            if status != 200:  # noqa: PLR2004 - HTTP's word for success
                return Sample(where, now, problem=_FOREIGN)
            sample = _read(where, now, text)
            if sample.ready:
                return sample
            _, text = await _get(session, f"http://{where}/readyz")
            return _with_reasons(sample, text)
    except TimeoutError:
        return Sample(where, clock(), problem=f"no answer within {_ANSWER_SECONDS:g} s")
    except (aiohttp.ClientError, OSError) as error:
        return Sample(where, clock(), problem=f"no answer ({_said(error)})")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Sample(where, clock(), problem=_FOREIGN)


async def scrape_all(
    addresses: list[str], clock: Callable[[], float] = time.monotonic
) -> list[Sample]:
    """Ask all workers at once."""
    return list(await asyncio.gather(*(scrape(each, clock) for each in addresses)))


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url, allow_redirects=False) as response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _ANSWER_MAX_BYTES:
                raise ValueError("longer than any worker's answer")
        return response.status, body.decode()


def _read(where: str, now: float, text: str) -> Sample:
    # Only whoever asks for workers pays for loading it.
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415

    values: dict[tuple[str, str], float] = {}
    version = ""
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            values[each.name, each.labels.get("outcome", "")] = each.value
            if each.name == "aup_build_info":
                version = each.labels["version"]
    return Sample(
        address=where,
        at_seconds=now,
        version=version,
        settled={kind: values["aup_messages_settled_total", kind.value] for kind in OutcomeKind},
        held=int(values["aup_messages_held", ""]),
        ready=values["aup_ready", ""] == 1,
    )


def _with_reasons(sample: Sample, text: str) -> Sample:
    report: Any = json.loads(text)
    reasons = tuple(str(each) for each in report["reasons"])
    return replace(sample, ready=report["ready"] is True, reasons=reasons)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        # The event loops put the address into the text, each in another way.
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    return error_text(error)
