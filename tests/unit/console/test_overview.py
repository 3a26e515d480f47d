"""The overview says what is wrong, and shows the figures of `status`, observed once for all."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from tests.simulation.faults import Denial
from tests.simulation.virtual_clock import START, simulated
from tests.unit.console.opened import Console, NoAges, fast_world, opened_console
from tests.unit.fakes import World, clock, open_world
from tests.unit.operations.dead_letters.dead_letter_queue import send_dead_letters
from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue
from worker.aws.sqs_responses import QueueState
from worker.console import timeline as timeline_module
from worker.console.bars import Bars
from worker.console.concerns import concerns
from worker.console.status_feed import INTERVAL_SECONDS, History, Snapshot, StatusFeed
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSDeniedError, AWSError, AWSUnavailableError
from worker.operations.status import observer as observer_module
from worker.operations.status.observer import QueueStatus, ReasonCounts, Status, WorkerStatus
from worker.operations.status.scrape import Sample

_STATE = QueueState(
    url="https://sqs.test/q",
    arn="arn:aws:sqs:eu-west-1:000000000000:q",
    visible=0,
    in_flight=0,
    delayed=0,
    retention_seconds=1_209_600,
    fifo=False,
    max_receive_count=None,
    redrives_to=None,
)
_RATES = dict.fromkeys(OutcomeKind, 1.5)


def _status(
    *,
    age: float | None = None,
    dead: int = 0,
    counts: ReasonCounts | None = None,
    workers: Sequence[Sample] = (),
) -> Status:
    return Status(
        at=START,
        queue=QueueStatus(replace(_STATE, visible=1), oldest_age_seconds=age),
        dead_letters=QueueStatus(replace(_STATE, visible=dead)),
        reason_counts=counts or ReasonCounts(),
        workers=tuple(WorkerStatus(each, _RATES) for each in workers),
    )


def _concerns(status: Status | None = None, error: AWSError | None = None) -> list[tuple[str, str]]:
    return [(each.kind, each.text) for each in concerns(Snapshot(status, error, History()))]


def _expiring(left: timedelta) -> ReasonCounts:
    return ReasonCounts({"invalid": 2, "conflict": 1}, 3, 3, "", START, START, START + left)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, []),
        ({"age": 900.0}, []),
        ({"age": 901.0},
         [("warn", "The oldest message in the queue has been waiting for 15 min.")]),
        ({"workers": [Sample("h:1", 0, ready=True)]}, []),
        ({"workers": [Sample("h:1", 0, reasons=("breaker open", "denied"))]},
         [("fail", "Worker h:1 is not ready: breaker open; denied.")]),
        ({"workers": [Sample("h:1", 0)]},
         [("fail", "Worker h:1 is not ready: no reason reported.")]),
        ({"workers": [Sample("h:1", 0, problem="no response")]},
         [("fail", "Worker h:1: no response.")]),
        ({"dead": 1}, [("warn", "1 dead letter waiting for a decision.")]),
        ({"dead": 3, "counts": _expiring(timedelta(days=2))},
         [("warn", "3 dead letters waiting for a decision: 2 invalid, 1 conflict.")]),
        ({"dead": 3, "counts": _expiring(timedelta(hours=3))},
         [("fail", "SQS deletes the first dead letter in 3 h: replay or export it."),
          ("warn", "3 dead letters waiting for a decision: 2 invalid, 1 conflict.")]),
    ],
)  # fmt: skip
def test_concerns_name_what_is_wrong_most_urgent_first(
    figures: Mapping[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert _concerns(_status(**figures)) == expected


def test_failed_and_denied_observations_are_concerns() -> None:
    assert _concerns(error=AWSUnavailableError("no response")) == [
        ("fail", "The queues cannot be read: no response")
    ]
    [(kind, text)] = _concerns(error=AWSDeniedError("AccessDenied: sqs:GetQueueAttributes"))
    assert kind == "warn"
    assert text.startswith("The role of this console may not read the queues. AccessDenied")


def _feed(world: World, error: AWSError | None = None) -> StatusFeed:
    async def queues() -> tuple[Queue, Queue]:
        if error is not None:
            raise error
        return world.source, world.dead_letters

    cloudwatch = cast("CloudWatch", NoAges())
    return StatusFeed(queues, cloudwatch, (), now=clock, clock=asyncio.get_running_loop().time)


@simulated
async def test_all_viewers_share_one_observation_every_two_seconds() -> None:
    world = await open_world()
    feed = _feed(world)
    for _ in range(3):
        await asyncio.gather(*(feed.current() for _ in range(5)))
    assert world.calls["GetQueueAttributes"] == 2  # one for each queue
    await asyncio.sleep(INTERVAL_SECONDS)
    await feed.current()
    assert world.calls["GetQueueAttributes"] == 4
    await feed.aclose()


@simulated
async def test_time_without_viewers_is_a_gap() -> None:
    feed = _feed(await open_world())
    for seconds in (0, 2, 60, 2):
        await asyncio.sleep(seconds)
        snapshot = await feed.current()
    assert list(snapshot.history.visible) == [0, 0, None, 0, 0]
    await feed.aclose()


@simulated
async def test_error_keeps_the_latest_status_and_is_tried_again() -> None:
    world = await open_world()
    feed = _feed(world)
    before = await feed.current()
    await asyncio.sleep(3)
    world.faults.deny("sqs", Denial(code="AccessDenied"))
    denied = await feed.current()
    assert isinstance(denied.error, AWSDeniedError)
    assert denied.status is before.status
    world.faults.allow("sqs")
    await asyncio.sleep(3)
    assert (await feed.current()).error is None
    await feed.aclose()


@simulated
async def test_counts_come_from_the_scan_of_the_console() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    feed = _feed(world)
    feed.counted = lambda: ReasonCounts({"invalid": 3}, 3, 3, "", clock(), clock(), clock())
    status = (await feed.current()).status
    assert status is not None
    assert status.reason_counts.counts == {"invalid": 3}
    assert world.calls["ReceiveMessage"] == 0
    await asyncio.sleep(10)
    status = (await feed.current()).status
    assert status is not None
    assert status.dead_letters.oldest_age_seconds is not None
    await feed.aclose()


@pytest.fixture
async def console() -> AsyncIterator[Console]:
    async with opened_console(await fast_world()) as opened:
        yield opened


def _plain(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def test_all_is_well_with_nothing_to_do(console: Console) -> None:
    text = _plain(await console.text("/"))
    assert "All is well: no dead letters, no old messages." in text
    assert "No worker is observed" in text


async def test_figures_are_those_of_status(console: Console) -> None:
    await console.world.push(*["{}"] * 3)
    await send_dead_letters(console.world, 12)
    await console.text("/")
    await console.context.scans.settle()
    console.context.status._observed_at = float("-inf")
    page = await console.text("/")
    text = _plain(page)
    assert "Visible in the queue 3 oldest - 0 delayed" not in text
    assert "Visible in the queue 3" in text
    assert "12 dead letters waiting for a decision: 12 invalid." in text
    assert '<a href="/dead-letters?reason=invalid">' in page
    assert "Dead letters by reason over time" in page
    status = (await console.context.status.current()).status
    assert status is not None
    assert status.report()["dead_letters"]["reasons"] == {"invalid": 12}


async def test_chart_is_computed_again_only_after_a_change(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []

    def counted(deaths: Iterable[tuple[datetime, str]], _: datetime) -> tuple[Bars, int]:
        computed.append(len(list(deaths)))
        return Bars([], {}), 60

    monkeypatch.setattr(timeline_module, "timeline", counted)
    for count in (2, 3):
        await send_dead_letters(console.world, count)
        console.context.scans.look(again=True)
        await console.context.scans.settle()
        for _ in range(3):
            console.context.timeline.bars(console.context.scans.snapshot, START)
    assert computed == [2, 5]


async def test_workers_are_shown_with_their_rates(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scrape_all(*_: object) -> list[Sample]:
        settled = dict.fromkeys(OutcomeKind, 0.0)
        return [
            Sample("h:1", 0, settled=settled, held=7, ready=True, version="1.2.3"),
            Sample("h:2", 0, settled=settled, reasons=("breaker open",)),
            Sample("h:3", 0, problem="no response (Connection refused)"),
        ]

    monkeypatch.setattr(observer_module, "scrape_all", scrape_all)
    text = _plain(await console.text("/"))
    assert "1 of 3 workers ready" in text
    assert "h:1 ✓ ready - - - - 7 1.2.3" in text
    assert "h:2 ✕ not ready - - - - 0 breaker open" in text
    assert "h:3 ✕ no response - - - - - no response (Connection refused)" in text


async def test_figures_are_streamed(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.console.status_feed.INTERVAL_SECONDS", 0.01)
    response = await console.get("/live")
    await response.content.readuntil(b"event: parts\n")
    line = await response.content.readuntil(b"\n\n")
    first = json.loads(line.removeprefix(b"data: "))
    assert list(first) == ["concerns", "cards", "reasons", "queues", "workers"]
    assert "All is well" in first["concerns"]
    await console.world.push("{}")
    while b'Visible in the queue</dt><dd class=\\"value\\">1<' not in line:
        line = await response.content.readuntil(b"\n\n")


async def test_auditor_is_told_what_is_not_permitted(console: Console) -> None:
    console.denied = AWSDeniedError("AccessDenied: not authorized to perform: sqs:GetQueueUrl")
    text = _plain(await console.text("/"))
    assert "The role of this console may not read the queues." in text
    assert "sqs:GetQueueUrl" in text
    assert (await console.get("/evidence")).status == 200


async def test_age_of_the_oldest_message_comes_from_cloudwatch(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ages(_: NoAges, names: Sequence[str], __: datetime) -> list[float | None]:
        return [1800.0 for _ in names]

    monkeypatch.setattr(NoAges, "oldest_ages", ages)
    await console.world.push("{}")
    await console.text("/")
    await asyncio.sleep(0)
    console.context.status._observed_at = float("-inf")
    assert "waiting for 30 min." in _plain(await console.text("/"))
