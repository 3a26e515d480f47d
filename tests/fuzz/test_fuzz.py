"""Tests that any body ends recorded or dead-lettered and the worker continues.

`SEED=7 pytest tests/fuzz` reproduces one seed, `BODIES=20000` runs more bodies.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.fuzz.bodies import bodies, sendable
from tests.fuzz.campaign import campaign
from tests.fuzz.decoding import BodyError, check_detail
from tests.unit.fakes import IP
from worker.domain.message import MESSAGE_MAX_BYTES

COUNT = int(os.environ.get("BODIES") or 3000)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**9))


@pytest.fixture(autouse=True)
def _same_randomness() -> Iterator[None]:
    state = random.getstate()
    yield
    random.setstate(state)


def test_every_body_is_recorded_or_dead_lettered_unchanged_without_blocking() -> None:
    print(f"SEED={SEED} BODIES={COUNT}")  # noqa: T201 - shown with the failure
    report = campaign(SEED, COUNT)
    print(report.line())  # noqa: T201 - shown with the failure
    assert report.outcomes.total() == report.count == COUNT


def test_bodies_reach_every_outcome() -> None:
    # With a fixed seed: a random one may miss the rarest outcome.
    report = campaign(7, 3000)
    assert report.outcomes.keys() >= {
        "recorded", "duplicate", "malformed", "invalid", "unknown_policy", "content_mismatch",
        "conflict",
    }  # fmt: skip


def test_bodies_of_a_seed_are_repeatable() -> None:
    assert list(bodies(5, 200)) == list(bodies(5, 200))
    assert list(bodies(5, 200)) != list(bodies(6, 200))


def test_body_that_sqs_rejects_is_made_sendable() -> None:
    assert sendable("a\x00\ud800b\n") == "a\ufffd\ufffdb\n"
    assert sendable(b"\xff{}") == "\ufffd{}"
    assert sendable("") == " "
    assert len(sendable("é" * MESSAGE_MAX_BYTES).encode()) == MESSAGE_MAX_BYTES


@pytest.mark.parametrize("detail", ["", "two\nlines", "two\u2028lines", f"came from {IP}"])
def test_detail_that_is_not_one_harmless_line_is_detected(detail: str) -> None:
    with pytest.raises(BodyError, match=r"^a detail [^\n]*\n'\\xe9'$"):
        check_detail(detail, "é")
