"""Decode a body under watch: how it ends, how long it takes, what it betrays."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.fuzz.mutations import PRIVATE, Body
from tests.unit.fakes import fixed_now
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.errors import Reason, RefusedError

MOST_SECONDS: Final = 0.05
_AGAIN: Final = 3
_SKEW_SECONDS: Final = 300.0
_SHOWN: Final = 2000


class BodyError(AssertionError):
    """A body did what none may; the text shows it in ASCII."""

    def __init__(self, problem: str, body: Body) -> None:
        shown = ascii(body[:_SHOWN])
        more = f" and {len(body) - _SHOWN} more" if len(body) > _SHOWN else ""
        super().__init__(f"{problem}\n{shown}{more}")


@dataclass(slots=True)
class Decoding:
    """Decode, and remember the longest time.

    Attributes:
        longest_seconds: an outlier counts with the best of its repetitions.
    """

    longest_seconds: float = 0.0

    def decode(self, body: Body) -> Acceptance | Reason:
        """Decode a body.

        Raises:
            BodyError: it raised what it may not, took too long, or betrayed something private.
        """
        seconds, result = _timed(body)
        if seconds > MOST_SECONDS:
            # Another process may have had the processor: three times more, by our own time on it.
            seconds = min(_timed(body, time.thread_time)[0] for _ in range(_AGAIN))
        self.longest_seconds = max(self.longest_seconds, seconds)
        if seconds > MOST_SECONDS:
            raise BodyError(f"decoding took {seconds * 1000:.0f} ms", body)
        if isinstance(result, Acceptance):
            if _is_ambiguous(body):
                raise BodyError("a name twice in one object became evidence", body)
            return result
        if isinstance(result, RefusedError):
            check_detail(result.detail, body)
            return result.reason
        raise BodyError(f"decoding raised {result!r}", body) from result


def _is_ambiguous(body: Body) -> bool:
    found = False

    def members(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len(dict(pairs)) < len(pairs)

    text = body if isinstance(body, str) else body.decode()
    json.loads(text.removeprefix("\ufeff"), object_pairs_hook=members)
    return found


def _timed(
    body: Body, seconds: Callable[[], float] = time.perf_counter
) -> tuple[float, Acceptance | Exception]:
    result: Acceptance | Exception
    began_at = seconds()
    try:
        result = decode(body, now=fixed_now(), clock_skew_seconds=_SKEW_SECONDS)
    except Exception as error:  # noqa: BLE001 - the caller judges it
        result = error
    return seconds() - began_at, result


def check_detail(detail: str, body: Body) -> None:
    """See that a detail is one line, says something, and betrays nothing.

    Raises:
        BodyError: it does not.
    """
    if len(detail.splitlines()) != 1:
        raise BodyError(f"a detail is not one line: {detail!a}", body)
    for value in PRIVATE:
        if value in detail:
            raise BodyError(f"a detail holds {value!r}", body)
