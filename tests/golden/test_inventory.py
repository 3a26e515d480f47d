"""Every text in the source of `worker/`, collected without running it."""

from __future__ import annotations

from tests.golden import inventory
from tests.golden.golden import Golden, lines


def test_log_events_and_their_keys(golden: Golden) -> None:
    golden.check("logs", {"events.txt": lines(inventory.log_events())})


def test_texts_in_the_source(golden: Golden) -> None:
    golden.check(
        "source",
        {
            "errors.txt": lines(inventory.error_texts()),
            "outcomes.txt": lines(inventory.outcome_details()),
            "sentences.txt": lines(inventory.sentences()),
            "counted-events.txt": lines(inventory.counted_events()),
        },
    )
