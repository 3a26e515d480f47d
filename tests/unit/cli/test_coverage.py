"""Sentences of `coverage`: estimate, plurals and share."""

from __future__ import annotations

import pytest

from worker.cli.coverage import share, summary_of
from worker.operations.evidence.coverage import estimate
from worker.repository import TableSize


@pytest.mark.parametrize(
    ("size", "expected_users", "text"),
    [
        (
            TableSize(1, 800),
            0,
            (
                "about 1 read unit for about 1 record: less than $0.01 on demand in us-east-1, "
                "less than 1 s at 200 read units per second; DynamoDB counts records every 6 hours"
            ),
        ),
        (
            TableSize(1_000_000, 819_200_000),
            5,
            (
                "about 100,000 read units for about 1,000,000 records: $0.01 on demand in "
                "us-east-1, 8 min at 200 read units per second; "
                "DynamoDB counts records every 6 hours"
            ),
        ),
        (
            TableSize(0, 0),
            0,
            "unknown, because DynamoDB counts records every 6 hours and reports none yet",
        ),
        (
            TableSize(0, 0),
            80_000,
            (
                "unknown, because DynamoDB counts records every 6 hours and reports none yet; one "
                "record for each of 80,000 expected users would need about 10,000 read units: less "
                "than $0.01 on demand in us-east-1, 50 s at 200 read units per second"
            ),
        ),
    ],
)
def test_estimate_says_what_it_is_based_on(size: TableSize, expected_users: int, text: str) -> None:
    assert summary_of(estimate(size, 200, expected_users), 200) == text


@pytest.mark.parametrize(
    ("users", "expected_users", "text"),
    [
        (1, None, "1 user in total"),
        (1340, None, "1,340 users in total"),
        (340, 500, "340 of 500 expected users (68.0 %)"),
        (1, 1, "1 of 1 expected user (100.0 %)"),
        (0, 80_000, "0 of 80,000 expected users (0.0 %)"),
        (600, 500, "600 of 500 expected users (120.0 %)"),
    ],
)
def test_users_are_a_share_of_the_expected_ones(
    users: int, expected_users: int | None, text: str
) -> None:
    assert share(users, expected_users) == text
