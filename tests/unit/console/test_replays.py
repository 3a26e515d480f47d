"""Replays of the console: a dry run first, then in the background, resumable by anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    World,
    clock,
    open_world,
    policy,
    settings,
)
from tests.unit.operations.dead_letters.dead_letter_queue import (
    hide_elsewhere,
    send_dead_letters,
)
from worker.aws.sqs import Queue
from worker.console.replay_run import ReplayRun, State
from worker.console.replays import DryRunResult, Replays
from worker.console.scans import DeadLetterScans
from worker.errors import AWSDeniedError, AWSError, UsageError
from worker.operations.dead_letters.filter_texts import FilterTexts
from worker.operations.dead_letters.journal import open_journal
from worker.operations.dead_letters.replay_request import ReplayTexts, parse_request


@dataclass
class _Console:
    """The parts of a console that replay, on a simulated AWS."""

    world: World
    scans: DeadLetterScans
    replays: Replays

    async def run_dry(self, **texts: Any) -> DryRunResult:
        """Run a dry run of all dead letters of the last scan."""
        self.scans.look(again=True)
        await self.scans.settle()
        request = ReplayTexts(operator="eve", **texts)
        dead_letters = self.scans.read(self.scans.snapshot.by_expiry())
        return await self.replays.run_dry(request, dead_letters)

    async def ended(self) -> ReplayRun:
        """Wait until the replay ends."""
        run = self.replays.run
        assert run is not None
        while run.state is State.RUNNING:  # noqa: ASYNC110 - the time is virtual
            await asyncio.sleep(0.1)
        return run


@asynccontextmanager
async def _console(
    path: Path, world: World | None = None, source: Queue | None = None, *, allowed: bool = True
) -> AsyncIterator[_Console]:
    world = world or await open_world()

    async def queues() -> tuple[Queue, Queue]:
        return source or world.source, world.dead_letters

    chosen = settings()
    async with world.repository() as repository:
        if await repository.policy("acceptable-use", "2026-01") is None:
            await repository.publish_policy(policy())
        scans = DeadLetterScans(queues, now=clock)
        replays = Replays(
            queues, repository, chosen, scans, allowed=allowed, journal=path, now=clock
        )
        yield _Console(world, scans, replays)
        await replays.aclose()
        await scans.aclose()


@simulated
async def test_dry_run_counts_outcomes_and_sends_nothing(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 3)
        await send_dead_letters(console.world, 2, reason="unknown_policy", body="{")
        found = await console.run_dry()
        assert (found.selected, found.succeeding, len(found.ids)) == (5, 3, 3)
        assert found.outcomes == {
            ("invalid", "would succeed"): 3,
            ("unknown_policy", "malformed"): 2,
        }
        assert [verdict.code for _, verdict in found.listed[:3]] == [
            "malformed", "malformed", "would succeed"
        ]  # fmt: skip
        assert (found.denied, found.unreadable, found.missing) == ((), "", 0)
        assert console.world.bodies(SOURCE) == []


@simulated
async def test_dry_run_applies_filter_and_edits(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 2, reason="conflict")
        await send_dead_letters(console.world, 2)
        found = await console.run_dry(
            texts=FilterTexts(reason=["invalid"]), set_=("version=2026-99",)
        )
        assert found.outcomes == {("invalid", "unknown_policy"): 2}
        assert found.ids == ()


@simulated
async def test_replay_sends_only_what_the_dry_run_found(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 3)
        await send_dead_letters(console.world, 1, reason="malformed", body="{")
        found = await console.run_dry()
        await send_dead_letters(console.world, 4, reason="conflict")
        run = await console.replays.start(found)
        assert run.state is State.RUNNING
        await console.ended()
        assert (run.state, run.total, run.done) == (State.FINISHED, 3, 3)
        assert len(console.world.bodies(SOURCE)) == 3
        assert len(console.world.bodies(DEAD_LETTERS)) == 5
        assert len(console.scans.snapshot.dead_letters) == 1
        assert not (tmp_path / "journal").exists()
        assert await console.replays.earlier() is None


@simulated
async def test_dry_run_can_be_used_once(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 1)
        found = await console.run_dry()
        assert console.replays.dry_run(found.key) is found
        await console.replays.start(found)
        await console.ended()
        with pytest.raises(UsageError, match="run the dry run again"):
            console.replays.dry_run(found.key)


@simulated
async def test_only_one_replay_runs_at_a_time(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 30)
        first = await console.run_dry(rate_per_second=5.0)
        second = await console.run_dry()
        await console.replays.start(first)
        with pytest.raises(UsageError, match="a replay runs already"):
            await console.replays.start(second)


@simulated
async def test_progress_has_rate_and_remaining_time(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 100)
        run = await console.replays.start(await console.run_dry(rate_per_second=5.0))
        await asyncio.sleep(10)
        assert run.per_second == pytest.approx(5, rel=0.3)
        assert run.remaining_seconds == pytest.approx((100 - run.done) / 5, rel=0.3)
        await console.ended()
        assert (run.remaining_seconds, run.done) == (None, 100)


@simulated
async def test_stopped_replay_is_resumed_without_sending_twice(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        await send_dead_letters(console.world, 60)
        run = await console.replays.start(
            await console.run_dry(rate_per_second=5.0, set_=("method=clickwrap",))
        )
        await asyncio.sleep(4)
        await console.replays.stop()
        assert (run.state, 0 < run.done < 60) == (State.STOPPED, True)
        earlier = await console.replays.earlier()
        assert earlier is not None
        assert (earlier.why_not_resumable, earlier.runs_elsewhere) == ("", False)
        assert earlier.texts == run.texts
        assert "continuing an earlier run" in earlier.notes[0]
        resumed = await console.replays.resume()
        await console.ended()
        assert (resumed.state, resumed.figures.replayed) == (State.FINISHED, 60)
        assert resumed.figures.earlier == run.figures.replayed
        assert len(console.world.bodies(SOURCE)) == 60


@simulated
async def test_another_console_resumes_what_a_closed_one_left(tmp_path: Path) -> None:
    path, world = tmp_path / "journal", await open_world()
    async with _console(path, world) as console:
        await send_dead_letters(world, 40)
        await console.replays.start(await console.run_dry(rate_per_second=5.0))
        await asyncio.sleep(3)
    async with _console(path, world) as console:
        assert console.replays.run is None
        await console.replays.resume()
        assert (await console.ended()).figures.replayed == 40
    assert len(world.bodies(SOURCE)) == 40


@simulated
async def test_replay_that_waits_for_a_killed_one_says_until_when(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with _console(path) as console:
        await send_dead_letters(console.world, 5)
        arn = (await console.world.dead_letters.state()).arn
        to = (await console.world.source.state()).arn
        texts = ReplayTexts(texts=FilterTexts(reason=["invalid"]))
        with open_journal(
            path, arn, parse_request(texts).request_digest, to, texts.to_json()
        ) as journal:
            journal.begin(clock(), 60)
        await hide_elsewhere(console.world, seconds=60)
        run = await console.replays.resume()
        while not run.waiting:  # noqa: ASYNC110 - the time is virtual
            await asyncio.sleep(0.1)
        assert run.waiting.startswith("waiting until ")
        assert 30 < (run.remaining_seconds or 0) < 60
        assert run.per_second is None
        await console.ended()
        assert (run.state, run.figures.replayed) == (State.FINISHED, 5)


@simulated
async def test_replay_of_another_process_is_shown_and_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    async with _console(path) as console:
        arn = (await console.world.dead_letters.state()).arn
        texts = ReplayTexts(texts=FilterTexts(reason=["invalid"]))
        digest = parse_request(texts).request_digest
        with open_journal(path, arn, digest, "arn", texts.to_json()) as journal:
            journal.begin(clock(), 60)
            earlier = await console.replays.earlier()
            assert earlier is not None
            assert (earlier.runs_elsewhere, earlier.texts) == (True, texts)
            with pytest.raises(UsageError, match="another process"):
                await console.replays.resume()


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ({}, "does not contain the request"),
        (ReplayTexts(from_file=True).to_json(), "started with --from"),
        (ReplayTexts(to="other").to_json(), "started with --to"),
        ({"of": "a later version"}, "does not contain the request"),
    ],
)
@simulated
async def test_replay_that_the_console_cannot_resume_says_what_to_do(
    tmp_path: Path, texts: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "journal"
    async with _console(path) as console:
        arn = (await console.world.dead_letters.state()).arn
        with open_journal(path, arn, "digest", "arn", texts) as journal:
            journal.begin(clock(), 60)
        with pytest.raises(UsageError, match=problem):
            await console.replays.resume()


@simulated
async def test_without_a_journal_there_is_nothing_to_resume(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        with pytest.raises(UsageError, match="no interrupted replay"):
            await console.replays.resume()


class _Denied(Queue):
    """A queue to which the role may not send."""

    async def send(self, *_: Any) -> list[AWSError | None]:
        raise AWSDeniedError("SendMessageBatch: AccessDenied")


@simulated
async def test_missing_permission_is_known_before_and_after_the_attempt(tmp_path: Path) -> None:
    world = await open_world()
    denied = _Denied(world.source._client, world.source.url)
    async with _console(tmp_path / "journal", world, denied) as console:
        await send_dead_letters(world, 3)
        found = await console.run_dry()
        assert found.denied == (
            "sqs:SendMessage on queue aup-acceptances: SendMessageBatch: AccessDenied",
        )
        run = await console.replays.start(found)
        await console.ended()
        assert (run.state, run.figures.failed) == (State.FINISHED, 3)
        assert run.figures.last_error == "SendMessageBatch: AccessDenied"
        assert len(world.bodies(DEAD_LETTERS)) == 3


@simulated
async def test_read_only_console_sends_nothing_and_probes_nothing(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal", allowed=False) as console:
        await send_dead_letters(console.world, 1)
        calls = console.world.calls["SendMessageBatch"]
        found = await console.run_dry()
        with pytest.raises(UsageError, match="read-only; nothing was sent"):
            await console.replays.start(found)
        assert console.world.calls["SendMessageBatch"] == calls
        assert console.world.calls["DeleteMessageBatch"] == 0


@simulated
async def test_only_the_latest_dry_runs_are_kept(tmp_path: Path) -> None:
    async with _console(tmp_path / "journal") as console:
        first = await console.run_dry()
        for _ in range(4):
            last = await console.run_dry()
        assert console.replays.dry_run(last.key) is last
        with pytest.raises(UsageError, match="has expired"):
            console.replays.dry_run(first.key)
