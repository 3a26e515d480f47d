"""The stream of bodies that a seed gives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Final

from tests.fuzz.documents import drawn
from tests.fuzz.giants import giant
from tests.fuzz.mutations import Body, structured
from worker.domain.message import MESSAGE_MAX_BYTES

_GIANTS: Final = 1 / 500
_DRAWN_SHARE: Final = 20
_MOST_DRAWN: Final = 2000
# SQS takes no other characters than these: XML 1.0's.
_NOT_SENDABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def bodies(seed: int, count: int) -> Iterator[Body]:
    """Give so many bodies, the same ones for the same seed and count."""
    rng = Random(seed)
    documents = drawn(seed, min(_MOST_DRAWN, count // _DRAWN_SHARE))
    often = len(documents) / count
    for number in range(count):
        choice = rng.random()
        if choice < _GIANTS:
            yield giant(rng, number)
        elif choice < _GIANTS + often:
            yield rng.choice(documents)
        else:
            yield structured(rng, number)


def sendable(body: Body) -> str:
    """Give what of a body a queue can carry: no other characters, no more bytes, not nothing."""
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    text = _NOT_SENDABLE.sub("\ufffd", text)
    if len(text) * 4 > MESSAGE_MAX_BYTES:
        text = text.encode()[:MESSAGE_MAX_BYTES].decode("utf-8", "ignore")
    return text or " "
