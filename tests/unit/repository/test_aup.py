"""State what the repository of acceptances and policies promises."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import FaultRates
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    IP,
    TEXT_SHA256,
    World,
    acceptance,
    aws_settings,
    message,
    open_world,
    policy,
)
from worker.aws.access import Operation
from worker.domain.evidence import verify
from worker.errors import (
    AWSDeniedError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    PolicyConflictError,
    PolicyNotFoundError,
    RepositoryClosedError,
)
from worker.repository import AUPRepository, RecordResult, SingletonMeta
from worker.repository.writes import Inserted

RECORDED, DUPLICATE, CONFLICT = RecordResult
WAYS = pytest.mark.parametrize("write_api", ["batch", "put"])


def _keys(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["user_id"], item["policy_version"]) for item in items]


@WAYS
@simulated
async def test_an_acceptance_is_recorded_whole_and_proven(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    result = await repository.record(acceptance(), received_at=START - timedelta(seconds=5))
    assert result is RECORDED
    (item,) = world.records()
    assert (item["user_id"], item["policy_version"]) == ("u-0", "acceptable-use#2026-01")
    assert item["received_at"] == "2026-11-22T09:59:55.000Z"
    assert verify(item) == []


@WAYS
@simulated
async def test_a_second_delivery_records_nothing_new(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.record(acceptance())
    assert await repository.record(acceptance()) is DUPLICATE
    assert await repository.record(acceptance(event_id="another click")) is DUPLICATE
    assert len(world.records()) == 1
    world.dynamodb.verify()


@WAYS
@simulated
async def test_the_same_event_with_other_content_is_a_conflict(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.record(acceptance())
    assert await repository.record(acceptance(channel="forged")) is CONFLICT
    assert await repository.record(acceptance(ip="198.51.100.1")) is CONFLICT
    (item,) = world.records()
    assert (item["channel"], item["ip"]) == ("web", IP)


@WAYS
@simulated
async def test_a_write_that_landed_without_an_answer_counts_as_recorded_by_us(
    write_api: str,
) -> None:
    world = await open_world()
    world.dynamodb.lose_answers = 1
    repository = world.repository(write_api=write_api)
    assert await repository.record(acceptance()) is RECORDED
    assert await repository.record(acceptance()) is DUPLICATE
    assert len(world.records()) == 1


@simulated
async def test_of_two_equal_acceptances_in_one_instant_only_one_is_recorded() -> None:
    world = await open_world()
    repository = world.repository()
    twice = await asyncio.gather(repository.record(acceptance()), repository.record(acceptance()))
    assert sorted(twice) == [DUPLICATE, RECORDED]
    assert len(world.records()) == 1


@simulated
async def test_concurrent_calls_are_gathered_into_batches_of_25() -> None:
    world = await open_world()
    repository = world.repository()
    await asyncio.gather(*(repository.record(acceptance(number)) for number in range(100)))
    assert [len(batch) for batch in world.dynamodb.batches] == [25] * 4
    assert len(world.records()) == 100
    assert repository.calls["BatchExecuteStatement"] == 4


@simulated
async def test_a_lone_call_waits_for_nobody() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance(0))
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    await repository.record(acceptance(1))
    # The fake's own 10 ms, and one way each of at most 20 ms.
    assert loop.time() - begun_at < 0.051
    assert [len(batch) for batch in world.dynamodb.batches] == [1, 1]


@simulated
async def test_the_same_key_is_never_twice_in_a_batch() -> None:
    world = await open_world()
    repository = world.repository()
    calls = [
        repository.record(acceptance(number % 7, event_id=f"e-{number}")) for number in range(60)
    ]
    results = Counter(await asyncio.gather(*calls))
    assert results == {RECORDED: 7, DUPLICATE: 53}
    for batch in world.dynamodb.batches:
        assert max(Counter(_keys(batch)).values()) == 1


@WAYS
@simulated
async def test_no_more_writes_are_under_way_than_allowed(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api, write_concurrency=3)
    await asyncio.gather(*(repository.record(acceptance(number)) for number in range(300)))
    assert world.dynamodb.most_writing == 3
    assert len(world.records()) == 300


@simulated
async def test_not_even_rejected_batches_exceed_the_concurrency() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda items: (
        dynamodb_error("BatchExecuteStatement", "ValidationException")
        if any(item["user_id"] in {"u-3", "u-30", "u-60"} for item in items)
        else None
    )
    repository = world.repository(write_concurrency=2)
    calls = [repository.record(acceptance(number)) for number in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    bad = [number for number, result in enumerate(results) if result is not RECORDED]
    assert bad == [3, 30, 60]
    assert all(isinstance(results[number], AWSRejectedError) for number in bad)
    assert world.dynamodb.most_writing <= 2


@simulated
async def test_a_throttled_statement_is_retried_alone() -> None:
    world = await open_world()
    throttled = ["u-1"]

    def throttle_once(item: dict[str, Any]) -> str | None:
        if item["user_id"] in throttled:
            throttled.remove(item["user_id"])
            return "ProvisionedThroughputExceeded"
        return None

    world.dynamodb.spoil_item = throttle_once
    repository = world.repository()
    results = await asyncio.gather(*(repository.record(acceptance(n)) for n in range(3)))
    assert results == [RECORDED] * 3
    assert [len(batch) for batch in world.dynamodb.batches] == [3, 1]
    assert _keys(world.dynamodb.batches[1]) == [("u-1", "acceptable-use#2026-01")]


@simulated
async def test_a_write_that_stays_throttled_is_given_up_after_its_attempts() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "ThrottlingError"
    repository = world.repository(write_attempts=3)
    with pytest.raises(AWSThrottledError):
        await repository.record(acceptance())
    assert len(world.dynamodb.batches) == 3


@simulated
async def test_retries_end_with_the_deadline_of_a_call() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "InternalServerError"
    repository = world.repository(write_attempts=20, call_timeout_seconds=3.0)
    with pytest.raises(AWSUnavailableError):
        await repository.record(acceptance())
    assert asyncio.get_running_loop().time() < 3.5


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", AWSDeniedError), ("ValidationError", AWSRejectedError)]
)
@simulated
async def test_what_no_retry_mends_is_raised_at_once(code: str, kind: type[Exception]) -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: code
    with pytest.raises(kind):
        await world.repository().record(acceptance())
    assert len(world.dynamodb.batches) == 1


@simulated
async def test_throttling_lowers_the_write_concurrency_and_it_recovers() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    repository = world.repository(write_concurrency=16, write_attempts=4)
    await asyncio.gather(
        *(repository.record(acceptance(n)) for n in range(200)), return_exceptions=True
    )
    lowered = repository.write_concurrency
    assert lowered <= 8
    world.dynamodb.spoil_call = lambda _: None
    world.dynamodb.most_writing = 0
    await asyncio.gather(*(repository.record(acceptance(n)) for n in range(200)))
    assert world.dynamodb.most_writing <= 16
    for number in range(200, 400):
        await repository.record(acceptance(number))
    assert repository.write_concurrency == 16


@simulated
async def test_lowered_concurrency_holds_for_the_calls_themselves() -> None:
    world = await open_world()
    repository = world.repository(write_concurrency=16)
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    for number in range(3):
        with pytest.raises(AWSThrottledError):
            await repository.record(acceptance(9000 + number))
    allowed = repository.write_concurrency
    assert allowed <= 4
    world.dynamodb.spoil_call = lambda _: None
    world.dynamodb.most_writing = 0
    await asyncio.gather(*(repository.record(acceptance(n)) for n in range(25 * 16)))
    # Sixteen calls that succeed may add a few.
    assert world.dynamodb.most_writing <= allowed + 5


@simulated
async def test_ten_thousand_acceptances_of_one_version_cost_one_read_of_the_policy() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    world.dynamodb.reads.clear()
    found = await asyncio.gather(
        *(repository.policy("acceptable-use", "2026-01") for _ in range(10_000))
    )
    assert found == [policy()] * 10_000
    assert world.dynamodb.reads["aup-policies"] == 1


@simulated
async def test_an_absent_policy_is_read_once_and_found_soon_after_its_publication() -> None:
    world = await open_world()
    repository = world.repository(policy_absence_seconds=2.0)
    for _ in range(50):
        assert await repository.policy("acceptable-use", "2026-01") is None
    assert world.dynamodb.reads["aup-policies"] == 1
    await world.dynamodb.put_item(TableName="aup-policies", Item=_item_of(policy().model_dump()))
    await asyncio.sleep(2)
    assert await repository.policy("acceptable-use", "2026-01") == policy()


def _item_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in fields.items()
        if value is not None
    }


@simulated
async def test_a_policy_published_here_is_known_here_at_once() -> None:
    world = await open_world()
    repository = world.repository(policy_absence_seconds=1000.0)
    assert await repository.policy("acceptable-use", "2026-01") is None
    with pytest.raises(PolicyNotFoundError):
        await repository.has_accepted("u-0", "acceptable-use")
    await repository.publish_policy(policy())
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    assert not await repository.has_accepted("u-0", "acceptable-use")


@simulated
async def test_a_policy_that_was_read_survives_an_outage_of_its_table() -> None:
    world = await open_world()
    repository = world.repository(policy_cache_seconds=10.0)
    await repository.publish_policy(policy())
    await repository.policy("acceptable-use", "2026-01")
    await asyncio.sleep(11)
    world.dynamodb.read_error = dynamodb_error("GetItem", "InternalServerError")
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    with pytest.raises(AWSUnavailableError):
        await repository.policy("acceptable-use", "never-read")


@simulated
async def test_publishing_the_same_again_changes_nothing() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    again = policy(published_at=START, effective_at=START)
    assert await repository.publish_policy(again) == policy()
    assert len(world.dynamodb.tables["aup-policies"]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Another"},
        {"content_sha256": "0" * 64},
        {"effective_at": START + timedelta(days=1)},
    ],
)
@simulated
async def test_a_published_version_cannot_be_changed(changes: dict[str, Any]) -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    with pytest.raises(PolicyConflictError, match=f"2026-01 .*{TEXT_SHA256}"):
        await repository.publish_policy(policy(**changes))
    assert await repository.policies() == [policy()]


@WAYS
@simulated
async def test_retiring_sets_the_end_once(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    retired = await repository.retire_policy("acceptable-use", "2026-01", retired_at=START)
    assert retired.retired_at == START
    await repository.retire_policy(
        "acceptable-use", "2026-01", retired_at=START + timedelta(days=1)
    )
    assert (await repository.policies())[0].retired_at == START
    with pytest.raises(PolicyNotFoundError, match="2026-99 is not published"):
        await repository.retire_policy("acceptable-use", "2026-99")
    assert len(world.dynamodb.tables["aup-policies"]) == 1


@simulated
async def test_policies_are_listed_by_id_and_start() -> None:
    world = await open_world()
    repository = world.repository()
    for each in (
        policy("b", effective_at=START),
        policy("a", effective_at=START + timedelta(days=1)),
        policy("x", policy_id="another"),
    ):
        await repository.publish_policy(each)
    assert [each.version for each in await repository.policies()] == ["b", "a", "x"]
    assert [each.version for each in await repository.policies("acceptable-use")] == ["b", "a"]
    assert await repository.policies("unheard-of") == []


@simulated
async def test_has_accepted_asks_for_the_version_in_force_now() -> None:
    world = await open_world()
    repository = world.repository(policy_cache_seconds=10.0)
    await repository.publish_policy(policy("2026-01"))
    await repository.publish_policy(policy("2026-02", effective_at=START + timedelta(hours=1)))
    await repository.record(acceptance())
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert not await repository.has_accepted("u-1", "acceptable-use")
    await asyncio.sleep(3600)
    assert not await repository.has_accepted("u-0", "acceptable-use")
    await repository.retire_policy("acceptable-use", "2026-02")
    await asyncio.sleep(11)
    assert await repository.has_accepted("u-0", "acceptable-use")


async def _accepted(world: World, count: int) -> AUPRepository:
    repository = world.repository()
    await asyncio.gather(
        *(
            repository.record(
                acceptance(
                    user_id="u", version=f"v-{number:04}", user_agent="x" * 1000, big="y" * 9000
                )
            )
            for number in range(count)
        ),
        repository.record(acceptance(user_id="u", policy_id="another")),
        repository.record(acceptance(user_id="v")),
    )
    return repository


@simulated
async def test_acceptances_of_a_user_come_page_by_page_and_in_order() -> None:
    world = await open_world()
    repository = await _accepted(world, 250)
    items = [item async for item in repository.acceptances("u")]
    expected = [f"acceptable-use#v-{number:04}" for number in range(250)]
    assert [item["policy_version"] for item in items] == [*expected, "another#2026-01"]
    assert repository.calls["Query"] > 1
    only = [item async for item in repository.acceptances("u", "another")]
    assert [item["policy_id"] for item in only] == ["another"]


@simulated
async def test_a_policy_id_is_no_prefix_of_another() -> None:
    repository = (await open_world()).repository()
    await repository.record(acceptance(user_id="u", policy_id="use"))
    await repository.record(acceptance(user_id="u", policy_id="use-2"))
    assert len([item async for item in repository.acceptances("u", "use")]) == 1


@WAYS
@simulated
async def test_the_probes_read_both_tables_and_write_nothing(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    assert [await probe.error() for probe in repository.probes()] == [None] * 3
    assert world.dynamodb.reads == {"aup-policies": 1, "aup-acceptances": 1}
    write = "BatchExecuteStatement" if write_api == "batch" else "PutItem"
    assert repository.calls == {"GetItem": 2, write: 1}
    assert world.records() == []


@simulated
async def test_the_reads_of_tables_with_other_keys_are_rejected() -> None:
    world = await open_world()
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    policies, acceptances, _ = world.repository(swapped).probes()
    assert isinstance(await policies.error(), AWSRejectedError)
    assert isinstance(await acceptances.error(), AWSRejectedError)


class _Observer:
    def __init__(self) -> None:
        self.observed: list[tuple[Operation, list[object]]] = []

    def observe(self, operation: Operation, results: Sequence[object], /) -> None:
        self.observed.append((operation, [type(each) for each in results]))


@simulated
async def test_every_read_and_write_is_observed_also_where_the_cache_hides_its_failure() -> None:
    world, observer = await open_world(), _Observer()
    repository = world.repository(policy_cache_seconds=60)
    await repository.publish_policy(policy())
    repository.observe(observer)
    await repository.policy("acceptable-use", "2026-01")
    await repository.record(acceptance())
    await repository.record(acceptance())  # finds itself
    await asyncio.sleep(61)
    world.dynamodb.read_error = dynamodb_error("GetItem", "AccessDeniedException")
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    world.dynamodb.spoil_item = lambda _: "AccessDenied"
    with pytest.raises(AWSDeniedError):
        await repository.record(acceptance())
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ResourceNotFoundException")
    with pytest.raises(AWSNotFoundError):
        await repository.record(acceptance())
    assert observer.observed == [
        (Operation.READ_POLICY, [dict]),
        (Operation.WRITE, [Inserted]),
        (Operation.WRITE, [Inserted]),
        (Operation.LOOK_UP, [dict]),
        (Operation.READ_POLICY, [AWSDeniedError]),
        (Operation.WRITE, [AWSDeniedError]),
        (Operation.WRITE, [AWSNotFoundError]),
    ]


@simulated
async def test_an_existing_record_that_is_not_answered_is_no_duplicate() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "DuplicateItem"
    with pytest.raises(AWSUnavailableError, match="not answered"):
        await world.repository().record(acceptance())


@simulated
async def test_closing_ends_every_kind_of_call_by_an_error_and_cancels_no_caller() -> None:
    world = await open_world()
    repository = world.repository(write_concurrency=1)
    await repository.record(acceptance())
    calls = [
        *(repository.record(acceptance(number)) for number in range(1, 60)),
        *(repository.record(acceptance()) for _ in range(5)),
        repository.policy("acceptable-use", "2026-01"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy("2026-02")),
        repository._read_no_policy(),
        repository._own_insert.attempt(),
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_closed(call)) for call in calls]
        await asyncio.sleep(0.005)
        await repository.aclose()
    assert all(task.result() for task in tasks)
    assert not any(task.cancelling() for task in tasks)


async def _closed(call: Coroutine[Any, Any, Any]) -> bool:
    try:
        await call
    except RepositoryClosedError:
        await asyncio.sleep(0)  # a cancellation left behind would be raised here
        return True
    return False


@simulated
async def test_a_caller_cancelled_by_its_owner_while_it_closes_stays_cancelled() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance())
    reading = asyncio.create_task(repository._read_no_policy())
    await asyncio.sleep(0.005)
    reading.cancel()
    await repository.aclose()
    await asyncio.wait([reading])
    assert reading.cancelled()


ITEM = {"policy_id": "acceptable-use", "version": "2026-01"}
ANOTHER = policy("2026-02").model_dump(mode="json", exclude_none=True)


class _Reads:
    """Respond to every read with the same."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def get_item(self, **_: Any) -> Any:
        return self.answer

    query = scan = get_item


def _reading(answer: Any) -> AUPRepository:
    session = SimulatedSession(cast("Any", None), cast("Any", _Reads(answer)))
    return AUPRepository(aws_settings(), cast("Any", session))


@pytest.mark.parametrize(
    "item",
    [
        {}, [], "text", 5, {"policy_id": "acceptable-use"}, {**ITEM, "version": "another"},
        {**ITEM, "version": 1}, ITEM, ANOTHER, {**ITEM, "title": IP, "content_sha256": IP},
    ],
)  # fmt: skip
@simulated
async def test_an_item_of_another_form_or_key_is_never_taken_for_absent(item: Any) -> None:
    repository = _reading({"Item": item})
    with pytest.raises((AWSUnavailableError, AWSRejectedError)) as caught:
        await repository.policy("acceptable-use", "2026-01")
    assert IP not in str(caught.value)


@simulated
async def test_an_intact_response_without_an_item_says_that_it_is_absent() -> None:
    assert await _reading({}).policy("acceptable-use", "2026-01") is None


@pytest.mark.parametrize("items", [{}, "text", 5, ["text"], [5], [ITEM]])
@simulated
async def test_a_malformed_page_is_unavailable(items: Any) -> None:
    for call in ("policies", "versions"):
        SingletonMeta.forget_all()
        repository = _reading({"Items": items})
        with pytest.raises((AWSUnavailableError, AWSRejectedError)):
            await repository.policies(None if call == "policies" else "acceptable-use")


@simulated
async def test_closing_ends_writes_under_way_and_refuses_new_ones() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance())
    writing = asyncio.create_task(repository.record(acceptance(1)))
    await asyncio.sleep(0.005)
    await repository.aclose()
    with pytest.raises(RepositoryClosedError):
        await writing
    assert world.session.open_count == 0
    for call in (
        repository.record(acceptance(2)),
        repository.policy("acceptable-use", "2026-01"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy()),
    ):
        with pytest.raises(RepositoryClosedError):
            await call


FOREIGN = {"user_id": "u-0", "policy_version": "acceptable-use#2026-01"}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, DUPLICATE),
        ({"accepted_at": "2020-01-01T00:00:00Z", "imported_by": "a script"}, DUPLICATE),
        ({"event_id": Decimal(7), "record_id": {"a"}}, DUPLICATE),
        ({"event_id": "another"}, DUPLICATE),
        ({"event_id": "event-0"}, CONFLICT),
        ({**message(), "imported_by": "a script"}, DUPLICATE),
        ({**message(), "channel": "forged"}, CONFLICT),
        ({**message(), "extra": "{"}, CONFLICT),
    ],
    ids=str,
)
@simulated
async def test_an_item_of_another_program_is_compared_like_any_other(
    attributes: dict[str, Any], expected: RecordResult
) -> None:
    world = await open_world()
    item = {**attributes, **FOREIGN}
    await world.dynamodb.put_item(TableName="aup-acceptances", Item=item)
    repository = world.repository()
    assert await repository.record(acceptance()) is expected
    assert world.records() == [item]
    await repository.publish_policy(policy())
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert [each async for each in repository.acceptances("u-0")] == [item]
    with pytest.raises(AWSRejectedError, match="has changed or is gone"):
        await repository.erase(item, ["ip"])


@WAYS
@simulated
async def test_of_two_ends_at_once_the_first_stays_and_both_callers_are_shown_it(
    write_api: str,
) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    ends = [START + timedelta(days=day, microseconds=7) for day in range(5)]
    retired = await asyncio.gather(
        *(repository.retire_policy("acceptable-use", "2026-01", retired_at=end) for end in ends)
    )
    (kept,) = await repository.policies()
    assert kept.retired_at in {START + timedelta(days=day) for day in range(5)}
    assert retired == [kept] * 5


@simulated
async def test_an_end_whose_answer_was_lost_is_shown_all_the_same() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    update = world.dynamodb.execute_statement

    async def twice(**request: Any) -> dict[str, Any]:
        await update(**request)
        return await update(**request)  # as the SDK does when the first answer was lost

    world.dynamodb.execute_statement = twice  # type: ignore[method-assign]
    retired = await repository.retire_policy("acceptable-use", "2026-01", retired_at=START)
    assert retired.retired_at == START


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"title": None}, "title"), ({"content_sha256": "AB" * 32}, "content_sha256")],
)
@simulated
async def test_a_policy_that_another_program_wrote_wrongly_is_named(
    changes: dict[str, Any], problem: str
) -> None:
    world = await open_world()
    item = {**_item_of(policy().model_dump()), **changes}
    await world.dynamodb.put_item(TableName="aup-policies", Item=item)
    repository = world.repository()
    expected = f"acceptable-use 2026-01 in aup-policies .*{problem}: .*correct the item"
    for read in (
        repository.policy("acceptable-use", "2026-01"),
        repository.policies(),
        repository.policies("acceptable-use"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy()),
    ):
        with pytest.raises(AWSRejectedError, match=expected):
            await read


@WAYS
@simulated
async def test_a_version_is_returned_as_precisely_as_the_table_keeps_it(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    start = START + timedelta(microseconds=1234)
    published = await repository.publish_policy(policy(effective_at=start))
    assert published.effective_at == START + timedelta(milliseconds=1)
    assert await repository.publish_policy(policy(effective_at=start)) == published
    assert await repository.policies() == [published]


@simulated
async def test_publishing_is_retried_while_the_table_throttles() -> None:
    world = await open_world()
    codes = ["ThrottlingError", "InternalServerError"]
    world.dynamodb.spoil_item = lambda _: codes.pop() if codes else None
    assert await world.repository().publish_policy(policy()) == policy()
    assert not codes


@WAYS
@simulated
async def test_what_was_just_written_is_read(write_api: str) -> None:
    world = await open_world()
    world.faults.rates = FaultRates(stale_read=1.0)
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    assert await repository.policies("acceptable-use") == [policy()]
    assert await repository.policies() == [policy()]
    assert await repository.record(acceptance()) is RECORDED
    assert await repository.record(acceptance()) is DUPLICATE
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert len([item async for item in repository.acceptances("u-0")]) == 1
    assert asyncio.get_running_loop().time() < world.faults.durations.stale_read_seconds
