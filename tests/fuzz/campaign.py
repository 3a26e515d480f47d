"""Put a seed's bodies through everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tests.fuzz.bodies import bodies, sendable
from tests.fuzz.carriage import Carriage, Decoded
from tests.fuzz.decoding import Decoding

_TOGETHER: Final = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a campaign.

    Attributes:
        ends: how the bodies ended: recorded, duplicate, or the reason of their death.
        longest_seconds: the longest decoding.
    """

    seed: int
    count: int
    ends: Counter[str]
    longest_seconds: float

    def line(self) -> str:
        """Tell everything in one line."""
        dead = ", ".join(
            f"{count} {reason}"
            for reason, count in sorted(self.ends.items())
            if reason not in {"recorded", "duplicate"}
        )
        return (
            f"{self.count} bodies: {self.ends['recorded']} recorded, "
            f"{self.ends['duplicate']} duplicates, dead: {dead or 'none'}; "
            f"longest decoding {self.longest_seconds * 1000:.1f} ms; SEED={self.seed}"
        )


def campaign(seed: int, count: int, progress: Callable[[int], None] | None = None) -> Report:
    """Decode every body, and carry each through the pipeline as far as a queue can hold it.

    Raises:
        AssertionError: a body did what none may.
    """
    decoding, carriage = Decoding(), Carriage()
    stream = bodies(seed, count)
    done = 0
    while chunk := list(islice(_decoded(stream, decoding), _TOGETHER)):
        texts, results = zip(*chunk, strict=True)
        carriage.carry(texts, results)
        done += len(chunk)
        if progress is not None:
            progress(done)
    return Report(seed, done, carriage.ends, decoding.longest_seconds)


def _decoded(stream: Iterator[str | bytes], decoding: Decoding) -> Iterator[tuple[str, Decoded]]:
    for body in stream:
        result = decoding.decode(body)
        text = sendable(body)
        yield text, result if text == body else decoding.decode(text)
