"""Tests of the outcome of every kind of message, over real connections."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from typing import Any

import pytest

from tests.integration.place import FORGOTTEN, POLICY, Place, good, now, sha256, stated
from tests.integration.proxy import proxy_to
from tests.integration.running import HoldingStore, ended, until, working
from worker.aws.sqs import open_queues
from worker.domain.evidence import verify
from worker.domain.outcome import OutcomeKind
from worker.domain.policy import Policy
from worker.operations.dead_letters import scan as walk_module
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository

# moto's receive slows down with the backlog.
BACKLOG_MAX = 40


def enveloped(number: int) -> str:
    inner = stated(number)
    event = {"specversion": "1.0", "id": "1", "source": "/app", "type": "accepted"}
    encoded = base64.b64encode(json.dumps(inner).encode()).decode()
    sns = {"Type": "Notification", "TopicArn": "arn:topic", "Message": json.dumps(inner)}
    envelopes: list[dict[str, Any]] = [
        event | {"data": inner},
        event | {"data_base64": encoded},
        sns,
        {"detail-type": "Accepted", "source": "app", "detail": inner},
        event | {"data": sns},
    ]
    return json.dumps(envelopes[number % len(envelopes)])


def without(field: str, number: int) -> str:
    return json.dumps({name: value for name, value in stated(number).items() if name != field})


def good_of_every_kind() -> list[str]:
    """Return acceptances of the users 0 to 199."""
    bodies = good(120)
    bodies += [enveloped(number) for number in range(120, 160)]
    bodies += [json.dumps(stated(n, version="2026-02")) for n in range(160, 180)]
    bodies += [json.dumps(stated(n, later={"field": [n]}), indent=2) for n in range(180, 190)]
    bodies += [without("content_sha256", number) for number in range(190, 200)]
    return bodies


def hopeless() -> dict[str, str]:
    """Return messages that can never be recorded, each with its reason."""
    malformed = [
        '{"event_id": "a"',
        "not JSON",
        "[]",
        "null",
        '{"event_id": NaN}',
        "[" * 100_000,
        json.dumps({"specversion": "1.0", "data_base64": "%%%"}),
    ]
    invalid = [
        "{}",
        without("user_id", 900),
        json.dumps(stated(901, user_id="")),
        json.dumps(stated(902, user_id=7)),
        json.dumps(stated(903, event_id="x" * 129)),
        json.dumps(stated(904, accepted_at="2026-01-15T10:00:00")),
        json.dumps(stated(905, accepted_at="2999-01-01T00:00:00Z")),
        json.dumps(stated(906, policy_id="a#b")),
        json.dumps({"detail-type": "EC2 Instance State-change Notification", "detail": {}}),
        json.dumps({"Type": "Notification", "TopicArn": "arn:topic", "Subject": "no message"}),
    ]
    unknown = [json.dumps(stated(n, version=FORGOTTEN)) for n in range(910, 920)]
    unknown.append(json.dumps(stated(920, policy_id="privacy")))
    mismatch = [json.dumps(stated(n, content_sha256=sha256("other"))) for n in range(930, 935)]
    return {
        **dict.fromkeys(malformed, "malformed"),
        **dict.fromkeys(invalid, "invalid"),
        **dict.fromkeys(unknown, "unknown_policy"),
        **dict.fromkeys(mismatch, "content_mismatch"),
    }


async def feed(place: Place, pipeline: Pipeline, bodies: list[str], already: int = 0) -> int:
    """Send messages while the pipeline runs; return how many were settled at the end."""
    for start in range(0, len(bodies), 20):
        await place.send(bodies[start : start + 20])
        sent = already + min(start + 20, len(bodies))
        await until(lambda sent=sent: sent - ended(pipeline) <= BACKLOG_MAX)  # type: ignore[misc] # bound now
    await until(lambda: ended(pipeline) >= already + len(bodies))
    return already + len(bodies)


async def test_every_kind_of_message_has_its_outcome(place: Place) -> None:
    bodies = good_of_every_kind()
    doubled = bodies[:30]
    dead = hopeless()
    forged = [json.dumps(stated(number, channel="forged")) for number in range(10)]
    async with working(place.settings()) as pipeline:
        sent = await feed(place, pipeline, [*bodies, *doubled, *dead])
        sent = await feed(place, pipeline, forged, sent)
    assert await place.waiting() == (0, 0)

    items = await place.recorded()
    assert Counter(item["user_id"] for item in items) == {f"user-{n}": 1 for n in range(200)}
    for item in items:
        assert verify(item) == []
        number = int(item["user_id"].removeprefix("user-"))
        version = "2026-02" if 160 <= number < 180 else "2026-01"
        assert item["policy_version"] == f"{POLICY}#{version}"
        known = stated(number, version=version)
        if 190 <= number < 200:
            del known["content_sha256"]
        assert known.items() <= item.items()
        assert ("extra" in item) == (180 <= number < 190)

    letters = await place.dead()
    expected = dead | dict.fromkeys(forged, "conflict")
    assert Counter(each.body for each in letters) == dict.fromkeys(expected, 1)
    assert {each.body: each.note["reason"] for each in letters} == expected
    assert all(each.note["detail"] for each in letters)

    accounting = pipeline.metrics.accounting
    assert accounting.by_kind[OutcomeKind.RECORDED] == len(bodies)
    assert accounting.by_kind[OutcomeKind.DUPLICATE] == len(doubled)
    assert accounting.by_kind[OutcomeKind.DEAD_LETTERED] == len(expected)
    assert accounting.dead_by_reason == Counter(expected.values())
    assert accounting.received == sent + accounting.by_kind[OutcomeKind.RETURNED]
    assert pipeline.metrics.events["deleted"] == sent


async def test_dead_letter_is_byte_for_byte_the_original_with_its_attributes(
    place: Place,
) -> None:
    attributes = {
        "tenant": {"DataType": "String", "StringValue": "é"},
        "number": {"DataType": "Number", "StringValue": "7"},
        "binary": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    body = ' {"é":\t"日本語",\r\n "event_id": 1 '
    async with working(place.settings()) as pipeline:
        await place.send([body], attributes)
        await until(lambda: ended(pipeline) == 1)
    (letter,) = await place.dead()
    assert letter.body == body
    note = letter.note
    assert {**letter.attributes, "aup.dead_letter": None} == attributes | {"aup.dead_letter": None}
    assert (note["reason"], note["receive_count"]) == ("malformed", 1)


async def test_dead_letter_of_an_unknown_version_is_recorded_after_publication_and_replay(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [json.dumps(stated(number, version=FORGOTTEN)) for number in range(25)]
    settings = place.settings()
    async with working(settings) as pipeline:
        await feed(place, pipeline, [*bodies, "not JSON"])
    assert pipeline.metrics.accounting.dead_by_reason == {"unknown_policy": 25, "malformed": 1}
    assert await place.recorded() == []

    place.publish(FORGOTTEN)
    monkeypatch.setattr(walk_module, "_POLL_SECONDS", 0)
    async with open_queues(settings) as (source, dead_letters), working(settings) as pipeline:
        figures = await replay(source, dead_letters, DeadLetterFilter(reasons=["unknown_policy"]))
        assert (figures.matched, figures.replayed) == (25, 25)
        await until(lambda: ended(pipeline) == 25)
    assert pipeline.metrics.accounting.by_kind == {OutcomeKind.RECORDED: 25}
    items = await place.recorded()
    assert {item["user_id"] for item in items} == {f"user-{n}" for n in range(25)}
    assert [verify(item) for item in items] == [[]] * 25
    assert [each.body for each in await place.dead()] == ["not JSON"]
    assert await place.waiting() == (0, 0)


async def test_version_published_in_time_is_recorded(place: Place) -> None:
    settings = place.settings(
        aws={"policy_absence_seconds": 0.1}, unknown_policy_seconds=60.0, max_attempts=1000
    )
    async with working(settings) as pipeline:
        await place.send([json.dumps(stated(1, version=FORGOTTEN))])
        await until(lambda: pipeline.metrics.events["unknown_policy_waits"] >= 2)
        await asyncio.to_thread(place.publish, FORGOTTEN)
        await until(lambda: ended(pipeline) == 1)
    assert pipeline.metrics.accounting.by_kind[OutcomeKind.RECORDED] == 1
    assert len(await place.recorded()) == 1
    assert await place.dead() == []


async def test_policy_is_read_once_for_a_hundred_acceptances(place: Place) -> None:
    reads: list[tuple[str, ...]] = []

    def note_reads(repository: AUPRepository) -> AUPRepository:
        # Among the calls they could not be told from a look-up after a write whose answer was lost.
        repository.check_owner()  # creates the cache
        cache = repository._policies._cache
        read = cache._read

        async def noted(*key: str) -> Policy | None:
            reads.append(key)
            return await read(*key)

        cache._read = noted
        return repository

    async with working(place.settings(), note_reads) as pipeline:
        await feed(place, pipeline, good(100))
    assert reads == [(POLICY, "2026-01")]
    assert pipeline.metrics.accounting.by_kind == {OutcomeKind.RECORDED: 100}


async def test_lease_is_extended_beyond_the_visibility_timeout(place: Place) -> None:
    holding: list[HoldingStore] = []

    def hold(repository: Any) -> HoldingStore:
        holding.append(HoldingStore(repository))
        return holding[0]

    settings = place.settings(visibility_timeout_seconds=2, wait_seconds=1)
    async with working(settings, hold) as pipeline:
        await place.send(good(12))
        await until(lambda: holding[0].waiting == 12)
        # Extended after each second of the two: three times is beyond the first visibility.
        await until(lambda: pipeline.metrics.events["lease_extended"] >= 3 * 12)
        assert await place.waiting() == (0, 12)
        holding[0].released.set()
        await until(lambda: ended(pipeline) == 12)
    assert pipeline.metrics.accounting.received == 12
    assert pipeline.metrics.accounting.by_kind == {OutcomeKind.RECORDED: 12}
    assert pipeline.metrics.events["lease_lost"] == 0
    assert pipeline.metrics.events["deleted"] == 12
    # In batches: twelve leases are two calls.
    calls = pipeline.metrics.calls["ChangeMessageVisibilityBatch"]
    assert calls <= 2 * (pipeline.metrics.events["lease_extended"] / 12 + 1)


async def test_drain_returns_unfinished_messages_for_the_next_worker(
    place: Place,
) -> None:
    holding: list[HoldingStore] = []

    def hold(repository: Any) -> HoldingStore:
        holding.append(HoldingStore(repository))
        return holding[0]

    settings = place.settings(
        drain_timeout_seconds=1.1, visibility_timeout_seconds=600, wait_seconds=1
    )
    async with working(settings, hold) as first:
        await place.send(good(15))
        await until(lambda: holding[0].waiting == 15)
    assert first.metrics.accounting.by_kind == {OutcomeKind.RETURNED: 15}
    assert await place.waiting() == (15, 0)
    assert await place.recorded() == []
    async with working(settings) as second:
        await until(lambda: ended(second) == 15)
    assert second.metrics.accounting.by_kind == {OutcomeKind.RECORDED: 15}
    assert len(await place.recorded()) == 15


async def test_drain_completes_messages_in_flight_and_leaves_the_rest(
    place: Place,
) -> None:
    bodies = good(60)
    async with working(place.settings(slots=20)) as pipeline:
        await place.send(bodies)
        await until(lambda: ended(pipeline) >= 1)
    ended_by_first = ended(pipeline)
    visible, in_flight = await place.waiting()
    assert (visible, in_flight) == (60 - ended_by_first, 0)
    assert len(await place.recorded()) == ended_by_first
    async with working(place.settings()) as pipeline:
        await until(lambda: ended(pipeline) == 60 - ended_by_first)
    assert len(await place.recorded()) == 60
    assert await place.waiting() == (0, 0)


async def test_two_workers_share_a_queue_and_record_everything_once(place: Place) -> None:
    bodies = good(60)
    settings = place.settings()
    async with working(settings) as pipeline, open_queues(settings) as (source, dead_letters):
        repository: Any = _store(pipeline)
        other = assemble((source, dead_letters), repository, settings, metrics=Metrics())
        running = asyncio.create_task(other.run())
        for start in range(0, 60, 20):
            await place.send(bodies[start : start + 20])
        await until(lambda: ended(pipeline) + ended(other) >= 60)
        other.stopping.set()
        await running
    assert other.metrics.accounting.is_balanced
    assert other.metrics.accounting.held == 0
    assert Counter(item["user_id"] for item in await place.recorded()) == {
        f"user-{n}": 1 for n in range(60)
    }
    assert await place.waiting() == (0, 0)


async def test_connections_stay_within_the_configured_pools(place: Place) -> None:
    aws = place.settings().aws
    assert aws.sqs_endpoint_url
    assert aws.dynamodb_endpoint_url
    async with (
        proxy_to(aws.sqs_endpoint_url) as sqs,
        proxy_to(aws.dynamodb_endpoint_url) as dynamodb,
    ):
        settings = place.settings(
            aws={
                "sqs_endpoint_url": sqs.url,
                "dynamodb_endpoint_url": dynamodb.url,
                "write_concurrency": 2,
            },
            poll_concurrency=3,
            settle_concurrency=1,
        )
        bodies = [*good(60), *good(10), *(f"bad {n}" for n in range(10))]
        async with working(settings) as pipeline:
            await feed(place, pipeline, bodies)
        assert 1 <= sqs.most_open <= 3 + 4 * 1
        assert 1 <= dynamodb.most_open <= 2 * 2 + 4
        if place.servers.sqs != "moto":  # which closes a connection after every answer
            assert sqs.opened_count <= 3 + 4 * 1
            assert dynamodb.opened_count <= 2 * 2 + 4
    assert len(await place.recorded()) == 60


async def test_messages_held_while_the_table_is_unreachable_are_recorded_later(
    place: Place,
) -> None:
    aws = place.settings().aws
    assert aws.dynamodb_endpoint_url
    async with proxy_to(aws.dynamodb_endpoint_url) as dynamodb:
        settings = place.settings(
            aws={"dynamodb_endpoint_url": dynamodb.url, "write_attempts": 1}, slots=30
        )
        async with working(settings) as pipeline:
            await feed(place, pipeline, good(20))
            dynamodb.break_down()
            await place.send(good(60, first=100))
            await until(lambda: pipeline.metrics.events["table_failures"] >= 10)
            # Receiving has stopped, so that what is not held keeps its receive count.
            assert pipeline.slots.in_flight <= 30
            dynamodb.mend()
            await until(lambda: ended(pipeline) == 80)
    accounting = pipeline.metrics.accounting
    # A write that landed before its connection broke is a duplicate when it is tried again.
    assert (
        accounting.by_kind[OutcomeKind.RECORDED] + accounting.by_kind[OutcomeKind.DUPLICATE] == 80
    )
    assert accounting.received == 80
    assert len(await place.recorded()) == 80
    assert await place.waiting() == (0, 0)
    assert await place.dead() == []


async def test_settling_is_retried_after_the_queue_was_unreachable(place: Place) -> None:
    aws = place.settings().aws
    assert aws.sqs_endpoint_url
    async with proxy_to(aws.sqs_endpoint_url) as sqs:
        settings = place.settings(
            aws={"sqs_endpoint_url": sqs.url}, visibility_timeout_seconds=2, slots=40
        )
        async with working(settings) as pipeline:
            for start in range(0, 60, 20):
                await place.send([*good(15, first=start), *(f"bad {start + n}" for n in range(5))])
                await until(lambda start=start: ended(pipeline) > start)  # type: ignore[misc] # bound now
                sqs.break_down()
                sqs.mend()
            await until(lambda: _is_done(place, pipeline))
    assert {item["user_id"] for item in await place.recorded()} == {
        f"user-{start + n}" for start in range(0, 60, 20) for n in range(15)
    }
    assert {each.body for each in await place.dead()} == {
        f"bad {start + n}" for start in range(0, 60, 20) for n in range(5)
    }
    assert pipeline.metrics.accounting.received >= 60


def _store(pipeline: Pipeline) -> Any:
    dispatch: Any = pipeline.supervisor._receiver._accept
    return dispatch.__self__._process.__self__._recorder._store


async def _is_done(place: Place, pipeline: Pipeline) -> bool:
    return (
        await place.waiting() == (0, 0)
        and pipeline.metrics.accounting.held == 0
        and ended(pipeline) >= 60
    )


async def test_record_has_the_time_when_sqs_received_the_message(place: Place) -> None:
    before = now()
    async with working(place.settings()) as pipeline:
        await feed(place, pipeline, good(1))
    (item,) = await place.recorded()
    assert (
        before.isoformat()[:17] <= item["received_at"] <= item["recorded_at"] <= now().isoformat()
    )
