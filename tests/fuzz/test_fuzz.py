"""Whatever comes in a body, the worker stays up and the body ends where it belongs.

`SEED=7 pytest tests/fuzz` plays one seed again, `BODIES=20000` plays more.
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


def test_every_body_is_recorded_or_dead_lettered_unchanged_and_blocks_nobody() -> None:
    print(f"SEED={SEED} BODIES={COUNT}")  # noqa: T201 - shown with the failure
    report = campaign(SEED, COUNT)
    print(report.line())  # noqa: T201 - the same
    assert report.ends.total() == report.count == COUNT


def test_the_bodies_are_neither_too_tame_nor_too_wild() -> None:
    # Of a known seed: the rarest end may be missed by one of many.
    report = campaign(7, 3000)
    assert report.ends.keys() >= {
        "recorded", "duplicate", "malformed", "invalid", "unknown_policy", "content_mismatch",
        "conflict",
    }  # fmt: skip


def test_a_seed_gives_the_same_bodies_every_time() -> None:
    assert list(bodies(5, 200)) == list(bodies(5, 200))
    assert list(bodies(5, 200)) != list(bodies(6, 200))


def test_what_a_queue_cannot_carry_is_made_sendable() -> None:
    assert sendable("a\x00\ud800b\n") == "a\ufffd\ufffdb\n"
    assert sendable(b"\xff{}") == "\ufffd{}"
    assert sendable("") == " "
    assert len(sendable("é" * MESSAGE_MAX_BYTES).encode()) == MESSAGE_MAX_BYTES


@pytest.mark.parametrize("detail", ["", "two\nlines", "two\u2028lines", f"came from {IP}"])
def test_a_detail_that_is_not_one_harmless_line_is_noticed(detail: str) -> None:
    with pytest.raises(BodyError, match=r"^a detail [^\n]*\n'\\xe9'$"):
        check_detail(detail, "é")
