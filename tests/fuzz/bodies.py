"""Stream of bodies drawn from a seed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Final

from tests.fuzz.documents import drawn
from tests.fuzz.large_bodies import large_body
from tests.fuzz.mutations import Body, structured
from worker.domain.message import MESSAGE_MAX_BYTES

_LARGE_SHARE: Final = 1 / 500
_DRAWN_SHARE: Final = 20
_MAX_DRAWN: Final = 2000
# SQS accepts only characters of XML 1.0.
_NOT_SENDABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def bodies(seed: int, count: int) -> Iterator[Body]:
    """Yield `count` bodies, the same ones for the same seed and count."""
    rng = Random(seed)
    documents = drawn(seed, min(_MAX_DRAWN, count // _DRAWN_SHARE))
    drawn_share = len(documents) / count
    for number in range(count):
        choice = rng.random()
        if choice < _LARGE_SHARE:
            yield large_body(rng, number)
        elif choice < _LARGE_SHARE + drawn_share:
            yield rng.choice(documents)
        else:
            yield structured(rng, number)


def sendable(body: Body) -> str:
    """Return a body that SQS accepts: only allowed characters, within the size limit, not empty."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    text = _NOT_SENDABLE.sub("\ufffd", text)
    if len(text) * 4 > MESSAGE_MAX_BYTES:
        text = text.encode()[:MESSAGE_MAX_BYTES].decode("utf-8", "ignore")
    return text or " "
