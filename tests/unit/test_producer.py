"""Publication by an application: validation, batches, retries and results."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import ABSENT, IP, Answer, FakeQueue, acceptance, body, message
from worker.domain.envelope import decode_any
from worker.domain.message_group import MessageGroup
from worker.errors import AWSDeniedError, AWSError, AWSNotFoundError, AWSUnavailableError
from worker.producer import (
    InvalidAcceptanceError,
    NotPublishedError,
    Published,
    Publisher,
    PublisherClosedError,
    SettingsError,
    open_publisher,
)

_PAST = "2020-01-01T00:00:00Z"


def _facts(number: int = 0, /, **changes: Any) -> dict[str, Any]:
    return message(number, **{"accepted_at": _PAST, **changes})


def _sent(queue: FakeQueue) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in queue.entries("send")]


@simulated
async def test_result_of_each_acceptance_is_returned_in_order() -> None:
    queue = FakeQueue()
    results = await Publisher(queue).publish(*map(_facts, range(23)))
    assert results == [Published(f"event-{number}") for number in range(23)]
    assert [len(batch) for batch in queue.of("send")] == [10, 10, 3]
    assert _sent(queue) == [_facts(number) for number in range(23)]
    assert await Publisher(queue).publish() == []


@simulated
async def test_concurrent_calls_share_batches() -> None:
    queue = FakeQueue()
    publisher = Publisher(queue)
    await asyncio.gather(*(publisher.publish(_facts(number)) for number in range(20)))
    assert [len(batch) for batch in queue.of("send")] == [10, 10]


@simulated
async def test_batches_stay_within_one_mebibyte() -> None:
    queue = FakeQueue()
    await Publisher(queue).publish(*(_facts(each, note="x" * 300_000) for each in range(7)))
    assert [len(batch) for batch in queue.of("send")] == [3, 3, 1]


@simulated
async def test_only_failed_entries_are_sent_again() -> None:
    queue = FakeQueue()
    failures = [2]

    def fail_third_twice(entries: Any) -> Answer:
        results: list[AWSError | None] = [None] * len(entries)
        for index, entry in enumerate(entries):
            if "event-3" in entry.body and failures[0]:
                failures[0] -= 1
                results[index] = AWSUnavailableError("internal")
        return results

    queue.on_send = fail_third_twice
    assert len(await Publisher(queue).publish(*map(_facts, range(5)))) == 5
    assert [len(batch) for batch in queue.of("send")] == [5, 1, 1]


@simulated
async def test_error_names_which_acceptances_are_in_the_queue() -> None:
    queue = FakeQueue()
    denied = AWSDeniedError("AccessDenied: no")
    queue.on_send = lambda entries: [denied if "event-1" in each.body else None for each in entries]
    with pytest.raises(NotPublishedError) as caught:
        await Publisher(queue).publish(*map(_facts, range(3)))
    assert caught.value.results == [
        Published("event-0"), Published("event-1", denied), Published("event-2"),
    ]  # fmt: skip
    assert str(caught.value) == (
        "1 of 3 acceptances not published, the first one for: AccessDenied: no"
    )


@simulated
async def test_failure_of_a_call_fails_its_acceptances_with_the_named_error() -> None:
    queue = FakeQueue()
    queue.on_send = lambda _: AWSNotFoundError("no queue")
    with pytest.raises(NotPublishedError) as caught:
        await Publisher(queue).publish(*map(_facts, range(2)))
    assert all(isinstance(each.error, AWSNotFoundError) for each in caught.value.results)


@simulated
async def test_nothing_is_sent_if_one_is_invalid_and_every_problem_is_reported() -> None:
    queue = FakeQueue()
    queue.message_max_bytes = 3000
    wrong = [
        _facts(user_id=ABSENT), _facts(), _facts(ip=[IP]), message(accepted_at="2999-01-01T00:00Z"),
        _facts(note="x" * 3000), _facts(note=object()), _facts(note=float("nan")),
        _facts(accepted_at=datetime(2026, 1, 1)),  # noqa: DTZ001 - what is tested
    ]  # fmt: skip
    with pytest.raises(InvalidAcceptanceError) as caught:
        await Publisher(queue).publish(*wrong)
    problems = [each.partition(": ") for each in caught.value.problems]
    assert [number for number, _, _ in problems] == [
        f"acceptances[{number}]" for number in (0, 2, 3, 4, 5, 6, 7)
    ]
    starts = ("invalid: user_id: missing", "invalid: ip: must be a string", "invalid: accepted_at",
              "3", "not representable as JSON: a value is of type object",
              "not representable as JSON", "invalid: accepted_at: must be an RFC 3339")  # fmt: skip
    assert all(text.startswith(start) for (*_, text), start in zip(problems, starts, strict=True))
    assert IP not in str(caught.value)
    assert queue.log == []


@simulated
async def test_values_of_python_are_written_as_the_schema_expects_them() -> None:
    queue = FakeQueue()
    event_id = UUID("01933b5a-4c00-7000-8000-000000000001")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    (result,) = await Publisher(queue).publish(_facts(event_id=event_id, accepted_at=at))
    assert result == Published(str(event_id))
    (sent,) = _sent(queue)
    assert (sent["event_id"], sent["accepted_at"]) == (str(event_id), "2026-01-02T03:04:05+00:00")


@simulated
async def test_acceptance_is_sent_with_unknown_fields_as_they_came() -> None:
    queue = FakeQueue()
    text = body(accepted_at=_PAST, locale=None)[:-1] + ', "ratio": 1.0000000000000000001, "a": {}}'
    given, _ = decode_any(text)
    await Publisher(queue).publish(given, acceptance(1, accepted_at=_PAST, note="n"))
    first, second = (each.body for each in queue.entries("send"))
    assert '"ratio":1.0000000000000000001' in first
    assert decode_any(first)[0] == given
    assert json.loads(second)["note"] == "n"


@simulated
async def test_envelope_is_published_as_it_is() -> None:
    queue = FakeQueue()
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": _facts(5)}
    assert await Publisher(queue).publish(event) == [Published("event-5")]
    assert _sent(queue) == [event]


@simulated
async def test_group_is_sent_and_an_invalid_one_is_reported() -> None:
    queue = FakeQueue()
    publisher = Publisher(queue, group=MessageGroup.parse("extra.tenant"))
    await publisher.publish(_facts(tenant="t-1"), _facts(1))
    assert [each.group_id for each in queue.entries("send")] == ["t-1", None]
    with pytest.raises(InvalidAcceptanceError, match=r"acceptances\[0\]: extra.tenant: must be"):
        await publisher.publish(_facts(tenant="two words"))


async def test_invalid_group_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="group=two words: must be 1 to 128"):
        async with open_publisher(group="two words"):
            pass


@simulated
async def test_closed_publisher_raises_a_named_error() -> None:
    queue = FakeQueue(seconds=10)
    publisher = Publisher(queue)
    pending = asyncio.create_task(publisher.publish(_facts()))
    await asyncio.sleep(1)
    await publisher.aclose()
    with pytest.raises(PublisherClosedError, match="publish it again with the same event_id"):
        await pending
    with pytest.raises(PublisherClosedError):
        await publisher.publish(_facts())


@simulated
async def test_context_of_the_current_span_is_sent() -> None:
    queue = FakeQueue()
    span = TracerProvider().get_tracer("application").start_span("request")
    with trace.use_span(span):
        await Publisher(queue).publish(_facts())
    await Publisher(queue).publish(_facts())
    traced, other = queue.entries("send")
    trace_id = f"{span.get_span_context().trace_id:032x}"
    assert trace_id in traced.attributes["traceparent"]["StringValue"]
    assert other.attributes == {}
