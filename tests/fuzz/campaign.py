"""Processing of all bodies of a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from tests.fuzz.bodies import bodies, sendable
from tests.fuzz.decoding import Decoding
from tests.fuzz.pipeline_run import Decoded, PipelineRun

_CHUNK_SIZE: Final = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a campaign.

    Attributes:
        outcomes: Number of bodies by outcome: recorded, duplicate or the dead letter's reason.
        longest_seconds: Longest decoding time.
    """

    seed: int
    count: int
    outcomes: Counter[str]
    longest_seconds: float

    def line(self) -> str:
        """Return the result as one line."""
        dead_letters = ", ".join(
            f"{count} {reason}"
            for reason, count in sorted(self.outcomes.items())
            if reason not in {"recorded", "duplicate"}
        )
        return (
            f"{self.count} bodies: {self.outcomes['recorded']} recorded, "
            f"{self.outcomes['duplicate']} duplicates, dead-lettered: {dead_letters or 'none'}; "
            f"longest decoding {self.longest_seconds * 1000:.1f} ms; SEED={self.seed}"
        )


def campaign(seed: int, count: int, progress: Callable[[int], None] | None = None) -> Report:
    """Decode every body, and process each in the pipeline in a form that SQS accepts.

    Raises:
        AssertionError: A body violates an invariant.
    """
    decoding, pipeline_run = Decoding(), PipelineRun()
    stream = bodies(seed, count)
    done = 0
    while chunk := list(islice(_decoded(stream, decoding), _CHUNK_SIZE)):
        texts, results = zip(*chunk, strict=True)
        pipeline_run.process(texts, results)
        done += len(chunk)
        if progress is not None:
            progress(done)
    return Report(seed, done, pipeline_run.outcomes, decoding.longest_seconds)


def _decoded(stream: Iterator[str | bytes], decoding: Decoding) -> Iterator[tuple[str, Decoded]]:
    for body in stream:
        result = decoding.decode(body)
        text = sendable(body)
        yield text, result if text == body else decoding.decode(text)
