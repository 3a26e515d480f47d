"""Checks before the first poll, and their agreement with `doctor`."""

from __future__ import annotations

import json
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import Denial
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, aws_settings, open_world, settings
from worker.errors import AWSDeniedError, AWSNotFoundError, AWSUnavailableError, SettingsError
from worker.operations.doctor import queues
from worker.operations.doctor.preflight import check
from worker.operations.doctor.result import CheckStatus
from worker.settings import Settings

Logs = list[MutableMapping[str, Any]]


async def _check(world: World, chosen: Settings | None = None) -> tuple[Settings, Logs]:
    chosen = chosen or settings()
    with capture_logs() as logs:
        repository = world.repository(chosen.aws)
        adjusted = await check(chosen, world.source, world.dead_letters, repository)
    return adjusted, logs


async def _valid_world(max_receive_count: int = 10) -> World:
    world = await open_world(max_receive_count=max_receive_count)
    world.sqs.queue(DEAD_LETTERS).configure({"MessageRetentionPeriod": "1209600"})
    return world


def _logged(logs: Logs) -> dict[str, tuple[str, str]]:
    return {each["check"]: (each["log_level"], each["event"]) for each in logs}


@simulated
async def test_valid_queues_change_no_setting_and_log_nothing() -> None:
    assert await _check(await _valid_world()) == (settings(), [])


@simulated
async def test_attempts_are_lowered_below_max_receive_count() -> None:
    adjusted, logs = await _check(await _valid_world(max_receive_count=5))
    assert adjusted.max_attempts == 4
    assert _logged(logs) == {"redrive policy": ("warning", "check warning")}
    assert "only 4," in logs[0]["found"]


@simulated
async def test_one_receive_leaves_one_attempt() -> None:
    adjusted, _ = await _check(await _valid_world(max_receive_count=1))
    assert adjusted.max_attempts == 1


@simulated
async def test_missing_redrive_policy_is_a_warning_and_short_retention_an_error() -> None:
    _, logs = await _check(await open_world())
    assert _logged(logs) == {
        "redrive policy": ("warning", "check warning"),
        "dead-letter queue: retention": ("error", "check failed"),
    }
    assert all(each["found"] and each["remedy"] for each in logs)


@simulated
async def test_every_result_at_the_start_is_a_result_of_doctor() -> None:
    world = await _valid_world()
    state, dead = await world.source.state(), await world.dead_letters.state()
    sources = [
        state,
        replace(state, fifo=True),
        replace(state, max_receive_count=None, redrives_to=None),
        replace(state, max_receive_count=3),
        replace(state, redrives_to="arn:other"),
        replace(state, arn=dead.arn),
    ]
    dead_letters = [
        dead,
        replace(dead, fifo=True),
        replace(dead, retention_seconds=60),
        replace(dead, message_max_bytes=1024),
        replace(dead, redrive_allow={"redrivePermission": "denyAll"}),
    ]
    for source in sources:
        for target in dead_letters:
            of_doctor = queues.of_source(source, target, settings())
            of_doctor += queues.of_dead_letters(target, source)
            at_start = queues.at_start(source, target, settings())
            assert set(at_start) <= set(of_doctor)
            failures = {each for each in of_doctor if each.status is CheckStatus.FAIL}
            assert failures <= set(at_start)


@simulated
async def test_fifo_queue_prevents_the_start() -> None:
    world = await open_world()
    world.sqs.queue(SOURCE).configure({"FifoQueue": "true"})
    with pytest.raises(SettingsError, match=r"is a FIFO queue; name a standard queue: --queue"):
        await _check(world)


@simulated
async def test_one_queue_for_both_roles_prevents_the_start() -> None:
    world = await open_world()
    world.dead_letters = world.source
    with pytest.raises(SettingsError, match=r"same queue, .*; name another: --dead-letter-queue"):
        await _check(world)


@simulated
async def test_tables_with_other_keys_prevent_the_start() -> None:
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    with pytest.raises(SettingsError) as caught:
        await _check(await open_world(), settings(aws=swapped))
    policies, acceptances = caught.value.problems
    assert policies.startswith("policies: GetItem: table aup-acceptances has other keys")
    assert policies.endswith("keys policy_id (S), version (S), or set AUP_TABLE_NAME to another")
    assert acceptances.startswith("acceptances: GetItem: table aup-policies has other keys")
    assert acceptances.endswith("policy_version (S), or set AUP_USER_TABLE_NAME to another")


@simulated
async def test_missing_table_is_named() -> None:
    missing = aws_settings(user_table_name="missing")
    with pytest.raises(AWSNotFoundError, match="missing"):
        await _check(await open_world(), settings(aws=missing))


@simulated
async def test_max_receive_count_may_be_a_string() -> None:
    world = await open_world()
    redrive: dict[str, Any] = {"maxReceiveCount": "5", "deadLetterTargetArn": "arn:x"}
    world.sqs.queue(SOURCE).configure({"RedrivePolicy": json.dumps(redrive)})
    adjusted, _ = await _check(world)
    assert adjusted.max_attempts == 4


_PERMISSIONS = [
    ("DeleteMessageBatch", "sqs:DeleteMessage on queue aup-acceptances"),
    ("ChangeMessageVisibilityBatch", "sqs:ChangeMessageVisibility on queue aup-acceptances"),
    ("SendMessageBatch", "sqs:SendMessage on queue aup-acceptances-dead"),
    ("PartiQLInsert", "dynamodb:PartiQLInsert on table aup-acceptances"),
    (
        "GetItem",
        "dynamodb:GetItem on table aup-policies, dynamodb:GetItem on table aup-acceptances",
    ),
]


def _deny(world: World, *calls: str) -> None:
    denial = Denial(code="AccessDeniedException", operations=frozenset(calls))
    world.faults.deny("sqs", denial)
    world.faults.deny("dynamodb", denial)


@pytest.mark.parametrize(("call", "permission"), _PERMISSIONS)
@simulated
async def test_missing_permission_is_named_before_the_first_poll(
    call: str, permission: str
) -> None:
    world = await open_world()
    _deny(world, call)
    with pytest.raises(AWSDeniedError) as caught:
        await _check(world)
    assert str(caught.value).startswith(f"missing permissions: grant {permission} (")


@simulated
async def test_all_missing_permissions_are_named_in_one_line() -> None:
    world = await open_world()
    _deny(world, *(call for call, _ in _PERMISSIONS))
    with pytest.raises(AWSDeniedError) as caught:
        await _check(world)
    assert all(named.partition(",")[0] in str(caught.value) for _, named in _PERMISSIONS)
    assert "\n" not in str(caught.value)
    assert world.sqs.queue(SOURCE).received_count == 0


@simulated
async def test_server_without_partiql_prevents_the_start_and_names_the_setting() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "UnknownOperationException")
    with pytest.raises(SettingsError, match=r"PartiQLInsert: .*; .* needs AUP_WRITE_API=put"):
        await _check(world)


@simulated
async def test_transient_error_is_raised_for_a_retry() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "500", status=500)
    with pytest.raises(AWSUnavailableError, match="needs AUP_WRITE_API=put"):
        await _check(world)


@pytest.mark.parametrize(
    ("source_bytes", "dead_bytes", "is_too_small"),
    [(262_144, 262_144, True), (262_144, 1_048_576, False), (1_048_576, 262_144, True)],
)
@simulated
async def test_dead_letter_queue_too_small_for_the_reason_is_an_error(
    source_bytes: int, dead_bytes: int, is_too_small: bool
) -> None:
    world = await _valid_world()
    world.sqs.queue(SOURCE).configure({"MaximumMessageSize": str(source_bytes)})
    world.sqs.queue(DEAD_LETTERS).configure({"MaximumMessageSize": str(dead_bytes)})
    _, logs = await _check(world)
    expected = {"dead-letter queue: message size": ("error", "check failed")}
    assert _logged(logs) == (expected if is_too_small else {})
    limits = world.source.message_max_bytes, world.dead_letters.message_max_bytes
    assert limits == (source_bytes, dead_bytes)
