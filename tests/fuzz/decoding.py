"""Decoding of a body with checks of its result, its time and its error detail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.fuzz.mutations import PRIVATE, Body
from tests.unit.fakes import fixed_now
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode, decode_any, decode_plain
from worker.errors import Reason, RefusedError

MAX_DECODE_SECONDS: Final = 0.05
_REPETITIONS: Final = 3
_SKEW_SECONDS: Final = 300.0
_MAX_SHOWN: Final = 2000


class BodyError(AssertionError):
    """A body violates an invariant; the message contains it in ASCII."""

    def __init__(self, problem: str, body: Body) -> None:
        shown = ascii(body[:_MAX_SHOWN])
        more = f" and {len(body) - _MAX_SHOWN} more" if len(body) > _MAX_SHOWN else ""
        super().__init__(f"{problem}\n{shown}{more}")


@dataclass(slots=True)
class Decoding:
    """Decoder that checks every result and keeps the longest time.

    Attributes:
        longest_seconds: Longest time; for outliers, the best of their repetitions.
    """

    longest_seconds: float = 0.0

    def decode(self, body: Body) -> Acceptance | Reason:
        """Decode a body.

        Raises:
            BodyError: Unexpected exception, too slow, private data in the detail, or a result that
                depends on how often the body is parsed.
        """
        check_plain(body)
        seconds, result = _timed(body)
        if seconds > MAX_DECODE_SECONDS:
            # Another process may have used the CPU: repeat it, measured in CPU time of this thread.
            seconds = min(_timed(body, time.thread_time)[0] for _ in range(_REPETITIONS))
        self.longest_seconds = max(self.longest_seconds, seconds)
        if seconds > MAX_DECODE_SECONDS:
            raise BodyError(f"decoding took {seconds * 1000:.0f} ms", body)
        if isinstance(result, Acceptance):
            if _is_ambiguous(body):
                raise BodyError("a duplicate name in an object was accepted", body)
            return result
        if isinstance(result, RefusedError):
            check_detail(result.detail, body)
            return result.reason
        raise BodyError(f"decoding raised {result!r}", body) from result


def check_plain(body: Body) -> bool:
    """Check that the fast path returns what the thorough one does, or nothing; return which.

    Raises:
        BodyError: They differ.
    """
    plain = decode_plain(body)
    if plain is None:
        return False
    try:
        expected, path = decode_any(body)
    except RefusedError as error:
        raise BodyError(f"the fast path accepts what is {error.reason}", body) from error
    if path or _everything(plain) != _everything(expected):
        raise BodyError("the fast path returns another acceptance", body)
    return True


def _everything(acceptance: Acceptance) -> tuple[Any, ...]:
    stated = acceptance.stated()
    return acceptance, list(stated.items()), acceptance.policy_version, acceptance.model_extra


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
    except Exception as error:  # noqa: BLE001 - checked by the caller
        result = error
    return seconds() - began_at, result


def check_detail(detail: str, body: Body) -> None:
    """Check that a detail is one line, not empty and without private data.

    Raises:
        BodyError: The detail is invalid.
    """
    if len(detail.splitlines()) != 1:
        raise BodyError(f"a detail is not one line: {detail!a}", body)
    for value in PRIVATE:
        if value in detail:
            raise BodyError(f"a detail contains {value!r}", body)
