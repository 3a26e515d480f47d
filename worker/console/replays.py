"""Replays that the console starts: a dry run first, then a run in the background."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from worker.aws.sqs import Queue, dead_letter_probes, source_probes
from worker.console.replay_run import ReplayRun, State
from worker.console.scans import DeadLetterScans
from worker.errors import AUPError, AWSDeniedError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import SUCCEEDS, UNCHECKED, Verdict
from worker.operations.dead_letters.dry_run_report import run_dry
from worker.operations.dead_letters.journal import (
    Progress,
    default_path,
    is_in_use,
    open_journal,
    read_progress,
)
from worker.operations.dead_letters.replay import (
    replay,
)
from worker.operations.dead_letters.replay_request import (
    OpenReplay,
    ReplayRequest,
    ReplayTexts,
    open_replay,
    parse_request,
)
from worker.operations.dead_letters.sentences import continued
from worker.operations.doctor.permissions import attempt
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.settings import Settings

_DRY_RUNS_MAX: Final = 4
# Dead letters of a dry run that are listed; all are counted.
LISTED_MAX: Final = 40
_SENT: Final = frozenset({SUCCEEDS, UNCHECKED, "sent before"})
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class DryRunResult:
    """Result of a dry run.

    Attributes:
        key: Secret id, without which nothing is sent.
        texts: The replay that was requested.
        ids: Dead letters that would be sent, or deleted because they were sent before.
        selected: Number of dead letters selected.
        outcomes: Number of dead letters by reason and verdict code.
        listed: The first dead letters, those that would not be sent before the others.
        unreadable: Why the policies cannot be read; empty if they can.
        missing: Number of ids that are not among the dead letters.
        denied: Permissions that the role lacks, one line each.
        at: Time of the dry run.
    """

    key: str
    texts: ReplayTexts
    ids: tuple[str, ...]
    selected: int
    outcomes: Counter[tuple[str, str]]
    listed: tuple[tuple[DeadLetter, Verdict], ...]
    unreadable: str
    missing: int
    denied: tuple[str, ...]
    at: datetime

    @property
    def succeeding(self) -> int:
        """Number of dead letters that would be recorded."""
        return sum(count for (_, code), count in self.outcomes.items() if code == SUCCEEDS)


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A replay in the journal that has not ended, by this or another program.

    Attributes:
        texts: What it replays; None if the journal does not say.
        progress: Its progress.
        runs_elsewhere: Whether another process runs it now.
        notes: What a resumed run will do, one line each.
    """

    texts: ReplayTexts | None
    progress: Progress
    runs_elsewhere: bool
    notes: list[str]

    @property
    def why_not_resumable(self) -> str:
        """Why the console cannot resume it; empty if it can."""
        if self.texts is None:
            return (
                "the journal does not contain the request; run the same `aup-worker replay` "
                "command again to continue"
            )
        if self.texts.from_file or self.texts.to is not None:
            option = "--from" if self.texts.from_file else "--to"
            return (
                f"it was started with {option}; run the same `aup-worker replay` command again "
                "to continue"
            )
        return ""


class Replays:
    """The replays of a console: at most one runs, in the background, with the CLI's journal.

    Args:
        queues: Returns the source queue and the dead-letter queue.
        repository: Repository of policies.
        settings: Settings of the worker whose decisions are predicted.
        scans: Scans of the dead-letter queue, which pause during a replay.
        allowed: Whether anything may be sent.
        journal: Path of the journal; the CLI's default path if None.
        now: Returns the current time, timezone-aware.

    Attributes:
        run: The last replay that this console started; None if it started none.
    """

    def __init__(
        self,
        queues: Callable[[], Awaitable[tuple[Queue, Queue]]],
        repository: AUPRepository,
        settings: Settings,
        scans: DeadLetterScans,
        *,
        allowed: bool,
        journal: Path | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.run: ReplayRun | None = None
        self._queues = queues
        self._repository = repository
        self._settings = settings
        self._scans = scans
        self._allowed = allowed
        self._journal = journal
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._dry_runs: dict[str, DryRunResult] = {}
        self._task: asyncio.Task[None] | None = None
        self._arn = ""

    async def run_dry(
        self, texts: ReplayTexts, dead_letters: AsyncIterable[DeadLetter]
    ) -> DryRunResult:
        """Predict the outcome of each message that a replay would send; send nothing.

        Args:
            texts: The requested replay.
            dead_letters: The dead letters that it may select.

        Raises:
            UsageError: A text is invalid.
        """
        request, opened = await self._opened(texts)
        report = await run_dry(dead_letters, request, opened)
        sent = [each.message_id for each, verdict in report.dead_letters if verdict.code in _SENT]
        ordered = sorted(report.dead_letters, key=lambda each: each[1].code in _SENT)
        dry_run = DryRunResult(
            key=secrets.token_urlsafe(16),
            texts=texts,
            ids=tuple(sent),
            selected=len(report.dead_letters),
            outcomes=report.outcomes,
            listed=tuple(ordered[:LISTED_MAX]),
            unreadable=report.unreadable,
            missing=report.missing,
            denied=await self._denied(),
            at=self._now(),
        )
        self._dry_runs[dry_run.key] = dry_run
        while len(self._dry_runs) > _DRY_RUNS_MAX:
            del self._dry_runs[next(iter(self._dry_runs))]
        return dry_run

    def dry_run(self, key: str) -> DryRunResult:
        """Return the result of a dry run.

        Raises:
            UsageError: There is none with this key, or it is too old to be kept.
        """
        if key not in self._dry_runs:
            raise UsageError(
                "the result of the dry run has expired; nothing was sent; run the dry run again"
            )
        return self._dry_runs[key]

    async def start(self, dry_run: DryRunResult, selection: str = "") -> ReplayRun:
        """Start to replay what a dry run has found, in the background.

        Args:
            dry_run: Result of the dry run.
            selection: How its dead letters were selected, for people.

        Raises:
            AUPError: Another replay runs, or the replay cannot be started.
        """
        texts = dry_run.texts
        chosen = ReplayTexts(
            ids=dry_run.ids,
            set_=texts.set_,
            rate_per_second=texts.rate_per_second,
            max_replays=texts.max_replays,
            operator=texts.operator,
            selection=selection,
        )
        run = await self._start(chosen)
        del self._dry_runs[dry_run.key]
        return run

    async def stop(self) -> None:
        """Stop the replay that runs; what it has sent stays sent and is in the journal."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def resume(self) -> ReplayRun:
        """Resume the replay in the journal.

        Raises:
            AUPError: There is none, it runs elsewhere, or it cannot be resumed here.
        """
        earlier = await self.earlier()
        if earlier is None:
            raise UsageError("no interrupted replay to resume; start one from a dry run")
        if earlier.runs_elsewhere or earlier.texts is None or earlier.why_not_resumable:
            raise UsageError(earlier.why_not_resumable or "the replay runs in another process")
        return await self._start(earlier.texts)

    async def earlier(self) -> EarlierRun | None:
        """Return the replay in the journal that has not ended and that this console does not run.

        Raises:
            AUPError: The queue or the journal cannot be read.
        """
        if self.run is not None and self.run.state is State.RUNNING:
            return None
        arn = self._arn or await self._read_arn()
        path = self._journal or default_path(arn, os.environ)
        progress = await asyncio.to_thread(read_progress, path, arn)
        if not progress.runs and not progress.outstanding:
            return None
        in_use = is_in_use(path)
        notes = [] if in_use else continued(progress, self._now())
        return EarlierRun(ReplayTexts.from_json(progress.texts), progress, in_use, notes)

    async def _read_arn(self) -> str:
        _, dead_letters = await self._queues()
        self._arn = (await dead_letters.state()).arn
        return self._arn

    async def aclose(self) -> None:
        """Stop the replay that runs, so that another program can resume it."""
        await self.stop()

    async def _opened(self, texts: ReplayTexts) -> tuple[ReplayRequest, OpenReplay]:
        request = parse_request(texts)
        opened = await open_replay(
            request,
            await self._queues(),
            self._repository,
            self._settings,
            journal=self._journal,
        )
        return request, opened

    async def _denied(self) -> tuple[str, ...]:
        """Return which permissions of a replay the role lacks, by calls that change nothing."""
        if not self._allowed:
            return ()
        source, dead_letters = await self._queues()
        probes = [*dead_letter_probes(source), source_probes(dead_letters)[0]]
        return tuple(
            f"{probe.action} on {probe.target}: {error}"
            for probe, error in await attempt(probes)
            if isinstance(error, AWSDeniedError)
        )

    async def _start(self, texts: ReplayTexts) -> ReplayRun:
        if not self._allowed:
            raise UsageError("the console is read-only; nothing was sent")
        if self._task is not None and not self._task.done():
            raise UsageError("a replay runs already; stop it or wait until it ends")
        request = parse_request(texts)
        total = request.selected.total(self._scans.snapshot.known) or None
        run = ReplayRun(texts, total, self._clock, self._scans.removed, self._now)
        started = asyncio.Event()
        self._task = asyncio.create_task(self._replay(run, started))
        waiting_ = asyncio.create_task(started.wait())
        await asyncio.wait((self._task, waiting_), return_when=asyncio.FIRST_COMPLETED)
        waiting_.cancel()
        if not started.is_set():
            raise UsageError(f"the replay was not started: {run.error}")
        self.run = run
        return run

    async def _replay(self, run: ReplayRun, started: asyncio.Event) -> None:
        try:
            await self._replay_with_journal(run, started)
            run.end(State.FINISHED)
        except asyncio.CancelledError:
            run.end(State.STOPPED)
        except AUPError as error:
            run.end(State.FAILED, str(error))
        except Exception:  # noqa: BLE001 - shown on the page
            run.end(State.FAILED, "the console failed; its log on stderr has the details")
            _log.exception("replay failed")
        if started.is_set():
            self._log_end(run)

    async def _replay_with_journal(self, run: ReplayRun, started: asyncio.Event) -> None:
        request, opened = await self._opened(run.texts)
        dry_run = None if run.texts.force else opened.dry_run
        with open_journal(*opened.journal, run.texts.to_json()) as journal:
            run.notes = continued(journal.progress, self._now())
            started.set()
            async with self._scans.exclusive():
                run.figures = await replay(
                    opened.source,
                    opened.dead_letters,
                    request.selected,
                    options=replace(opened.options, journal=journal, dry_run=dry_run),
                    observer=run,
                    now=self._now,
                    visibility_timeout_seconds=self._settings.look_seconds,
                )

    def _log_end(self, run: ReplayRun) -> None:
        _log.info(
            f"replay {run.state}",
            operator=run.texts.operator,
            seconds=round(run.seconds, 3),
            **run.figures.counts(),
            error=run.error or None,
        )
