"""Attributes of a queue are read."""

from __future__ import annotations

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.aws.one_response import OneResponse, queue_of, receive
from tests.unit.fakes import DEAD_LETTERS, open_world


@simulated
async def test_state_has_depth_retention_and_redrive_policy() -> None:
    world = await open_world(max_receive_count=9)
    await world.push("a", "b", "c")
    await receive(world.source, 1)
    state = await world.source.state()
    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.max_receive_count, state.fifo) == (9, False)
    assert state.redrives_to == world.sqs.queue(DEAD_LETTERS).arn
    dead_letters = await world.dead_letters.state()
    assert (dead_letters.max_receive_count, dead_letters.redrives_to) == (None, None)
    assert dead_letters.retention_seconds == 345_600


@pytest.mark.parametrize(
    ("attributes", "limit"),
    [
        ({}, 1_048_576),
        ({"MaximumMessageSize": "1024"}, 1024),
        ({"MaximumMessageSize": "2097152"}, 1_048_576),
    ],
)
@simulated
async def test_message_size_limit_is_read_with_the_other_attributes(
    attributes: dict[str, str], limit: int
) -> None:
    queue = queue_of(OneResponse({"Attributes": attributes}))
    assert queue.message_max_bytes == 1_048_576
    assert (await queue.state()).message_max_bytes == limit
    assert queue.message_max_bytes == limit
