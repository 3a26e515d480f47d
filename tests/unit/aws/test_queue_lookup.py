"""Queues are opened by URL or by name."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.aws.one_response import receive
from tests.unit.fakes import DEAD_LETTERS, SOURCE, open_world, settings
from worker.aws.queue_lookup import open_queues
from worker.errors import (
    AWSNotFoundError,
)


@simulated
async def test_queues_are_opened_by_name_with_separate_pools() -> None:
    world = await open_world()
    configured = settings(poll_concurrency=13, settle_concurrency=5, wait_seconds=20)
    session = cast("Any", world.session)
    async with open_queues(configured, session=session) as (source, dead_letters):
        assert source.url == world.sqs.queue(SOURCE).url
        assert dead_letters.url == world.sqs.queue(DEAD_LETTERS).url
        await world.push("a")
        assert len(await receive(source)) == 1
    assert world.session.open_count == 0
    polls, rest = (options["config"] for _, _, options in world.session.openings)
    assert polls.max_pool_connections >= 13
    assert polls.read_timeout > 20
    assert polls.retries["total_max_attempts"] == 1
    # Deletes, returns, dead_letters letters and extensions, each of that concurrency.
    assert rest.max_pool_connections >= 4 * 5


@simulated
async def test_error_for_a_missing_queue_says_what_to_do() -> None:
    world = await open_world()
    configured = settings(queue="missing")
    with pytest.raises(AWSNotFoundError, match=r"'missing' does not exist.*AUP_QUEUE"):
        async with open_queues(configured, session=cast("Any", world.session)):
            pass
    assert world.session.open_count == 0
