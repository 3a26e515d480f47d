"""State what is checked with AWS before the first poll."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import Denial
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, aws_settings, open_world, settings
from worker.errors import AWSDeniedError, AWSNotFoundError, AWSUnavailableError, SettingsError
from worker.operations.doctor.preflight import check
from worker.settings import Settings


async def _checked(world: World, chosen: Settings | None = None) -> tuple[Settings, list[str]]:
    chosen = chosen or settings()
    with capture_logs() as logs:
        repository = world.repository(chosen.aws)
        fitted = await check(chosen, world.source, world.dead_letters, repository)
    return fitted, [entry["event"] for entry in logs]


@simulated
async def test_what_fits_is_left_as_it_is() -> None:
    world = await open_world(max_receive_count=10)
    world.sqs.queue("aup-acceptances-dead").configure({"MessageRetentionPeriod": "1209600"})
    assert await _checked(world) == (settings(), [])


@simulated
async def test_the_worker_acts_before_the_queues_last_receive() -> None:
    fitted, warnings = await _checked(await open_world(max_receive_count=5), settings())
    assert fitted.max_attempts == 4
    assert "AUP_MAX_ATTEMPTS lowered below the queue's maxReceiveCount" in warnings


@simulated
async def test_a_single_receive_leaves_a_single_attempt() -> None:
    fitted, _ = await _checked(await open_world(max_receive_count=1))
    assert fitted.max_attempts == 1


@simulated
async def test_a_missing_safety_net_and_an_early_expiry_are_warned_of() -> None:
    _, warnings = await _checked(await open_world())
    assert any("no redrive policy" in each for each in warnings)
    assert any("expire too early" in each for each in warnings)


@simulated
async def test_a_fifo_queue_is_refused() -> None:
    world = await open_world()
    world.sqs.queue(SOURCE).configure({"FifoQueue": "true"})
    with pytest.raises(SettingsError, match=r"AUP_QUEUE=.*must be a standard queue, not FIFO"):
        await _checked(world)


@simulated
async def test_the_source_is_not_its_own_dead_letter_queue() -> None:
    world = await open_world()
    world.dead_letters = world.source
    with pytest.raises(SettingsError, match=r"AUP_DEAD_LETTER_QUEUE=.*must differ from AUP_QUEUE"):
        await _checked(world)


@simulated
async def test_tables_with_other_keys_are_refused() -> None:
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    with pytest.raises(SettingsError, match=r"AUP_TABLE_NAME=aup-acceptances.*keys must be"):
        await _checked(await open_world(), settings(aws=swapped))


@simulated
async def test_a_table_that_does_not_exist_is_named() -> None:
    missing = aws_settings(user_table_name="missing")
    with pytest.raises(AWSNotFoundError, match="missing"):
        await _checked(await open_world(), settings(aws=missing))


@simulated
async def test_the_redrive_policy_may_state_its_count_as_text() -> None:
    world = await open_world()
    redrive: dict[str, Any] = {"maxReceiveCount": "5", "deadLetterTargetArn": "arn:x"}
    world.sqs.queue(SOURCE).configure({"RedrivePolicy": json.dumps(redrive)})
    fitted, _ = await _checked(world)
    assert fitted.max_attempts == 4


_EACH = [
    ("DeleteMessageBatch", "sqs:DeleteMessage on queue aup-acceptances"),
    ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility on queue aup-acceptances"),
    ("SendMessageBatch", "sqs:SendMessage on queue aup-acceptances-dead"),
    ("PartiQLInsert", "dynamodb:PartiQLInsert on table aup-acceptances"),
    (
        "GetItem",
        "dynamodb:GetItem on table aup-policies, dynamodb:GetItem on table aup-acceptances",
    ),
]


def _denied(world: World, *calls: str) -> None:
    denial = Denial(code="AccessDeniedException", operations=frozenset(calls))
    world.faults.deny("sqs", denial)
    world.faults.deny("dynamodb", denial)


@pytest.mark.parametrize(("call", "named"), _EACH)
@simulated
async def test_a_missing_permission_is_named_before_the_first_poll(call: str, named: str) -> None:
    world = await open_world()
    _denied(world, call)
    with pytest.raises(AWSDeniedError) as caught:
        await _checked(world)
    assert str(caught.value).startswith(f"missing permissions: grant {named} (")


@simulated
async def test_all_missing_permissions_are_named_in_one_line() -> None:
    world = await open_world()
    _denied(world, *(call for call, _ in _EACH))
    with pytest.raises(AWSDeniedError) as caught:
        await _checked(world)
    assert all(named.partition(",")[0] in str(caught.value) for _, named in _EACH)
    assert "\n" not in str(caught.value)
    assert world.sqs.queue(SOURCE).handed_out_count == 0


@simulated
async def test_a_table_service_without_partiql_is_found_with_the_setting_that_helps() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "UnknownOperationException")
    with pytest.raises(SettingsError, match=r"AUP_WRITE_API=batch: .*needs AUP_WRITE_API=put"):
        await _checked(world)


@simulated
async def test_a_failure_that_may_pass_is_left_to_whoever_tries_again() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "500", status=500)
    with pytest.raises(AWSUnavailableError, match="needs AUP_WRITE_API=put"):
        await _checked(world)


@pytest.mark.parametrize(
    ("source_bytes", "dead_bytes", "warned"),
    [(262_144, 262_144, True), (262_144, 1_048_576, False), (1_048_576, 262_144, True)],
)
@simulated
async def test_dead_letter_queue_without_room_for_the_reason_is_warned_of(
    source_bytes: int, dead_bytes: int, warned: bool
) -> None:
    world = await open_world(max_receive_count=20)
    world.sqs.queue(SOURCE).configure({"MaximumMessageSize": str(source_bytes)})
    world.sqs.queue(DEAD_LETTERS).configure({"MaximumMessageSize": str(dead_bytes)})
    _, warnings = await _checked(world)
    assert any("large dead letters" in each for each in warnings) is warned
    limits = world.source.message_max_bytes, world.dead_letters.message_max_bytes
    assert limits == (source_bytes, dead_bytes)
