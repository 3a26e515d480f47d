"""Layout of `status`, printed once or refreshed continuously."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from worker.cli import screen
from worker.cli.bars import BAR_STYLE, Bar, Sparkline
from worker.cli.tables import Table
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError
from worker.operations.status.observer import QueueStatus, ReasonCounts, Status, WorkerStatus
from worker.runtime.quantities import duration

_HISTORY_SAMPLES: Final = 200
_WORKER_COLUMNS: Final = 72
_KEYS_BYTES: Final = 1024
_UNKNOWN: Final = "unknown"
_DEAD_LETTERS: Final = "dead letters"
# Colours by meaning; rich leaves them out if NO_COLOR is set.
_DEAD: Final = "red"
_STATE: Final = {True: "green", False: "yellow"}
_NO_WORKER: Final = "bold red"
_BLANK_LINE: Final = Text("")

Observe = Callable[[], Awaitable[Status]]


class History:
    """Time series of the figures in a live view."""

    def __init__(self) -> None:
        self.series: dict[str, deque[float | None]] = {}

    def add(self, status: Status) -> None:
        """Append the figures of a status."""
        rate = (
            ("recorded/s", status.recorded_per_second)
            if status.workers
            else ("net/s", status.queue.net_per_second)
        )
        figures = (("queue", status.queue.depth), (_DEAD_LETTERS, status.dead_letters.depth), rate)
        for name, value in figures:
            self.series.setdefault(name, deque(maxlen=_HISTORY_SAMPLES)).append(value)


def draw(status: Status, columns: int, history: History | None = None) -> RenderableType:
    """Return the layout of a status.

    Args:
        status: Figures to show.
        columns: Width of the terminal.
        history: Earlier figures, for a live view.
    """
    parts: list[RenderableType] = [_queues(status)]
    if status.workers:
        parts += [_BLANK_LINE, *_workers(status.workers, columns)]
    if history is not None:
        parts += [_BLANK_LINE, _sparklines(history)]
    return Group(*parts, _BLANK_LINE, *_reasons(status, columns))


def line(status: Status) -> str:
    """Return a status as one line, for output that is not a terminal."""
    queue, dead = status.queue, status.dead_letters
    state, net = queue.state, _per_second(queue.net_per_second, signed=True)
    parts = [
        status.at.isoformat(timespec="seconds"),
        f"queue {state.visible:,} visible",
        f"{state.in_flight:,} in flight",
        f"{state.delayed:,} delayed",
        f"oldest {_age(queue)}",
        f"net {net}",
        f"dead letters {dead.depth:,}{_counted(status.reason_counts)}",
    ]
    for each in status.workers:
        sample = each.sample
        if sample.problem:
            parts.append(f"{sample.address} {sample.problem}")
        else:
            recorded = _per_second(_rate_of(each, OutcomeKind.RECORDED))
            parts.append(
                f"{sample.address} {_state(each)}, recorded {recorded}, {sample.held:,} held"
            )
    return "; ".join(parts)


def _counted(reason_counts: ReasonCounts) -> str:
    if not reason_counts.counts:
        return ""
    return f" ({', '.join(f'{name} {count:,}' for name, count in reason_counts.counts.items())})"


def _queues(status: Status) -> Table:
    rows: list[tuple[str | Text, ...]] = []
    for name, queue in (("queue", status.queue), (_DEAD_LETTERS, status.dead_letters)):
        state = queue.state
        style = _DEAD if name == _DEAD_LETTERS else ""
        counts = (
            Text(f"{each:,}", style if each else "")
            for each in (state.visible, state.in_flight, state.delayed)
        )
        rows.append((name, *counts, _age(queue), _rate(queue.net_per_second, signed=True)))
    columns = ("", "visible", "in flight", "delayed", "oldest", "net/s")
    return screen.table(columns, rows, right=range(1, len(columns)))


def _age(queue: QueueStatus) -> str:
    if not queue.depth:
        return "-"
    seconds = queue.oldest_age_seconds
    return _UNKNOWN if seconds is None else duration(seconds)


def _rate(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return (
        f"{value:+,.1f}"
        if signed and round(value, 1)
        else f"{abs(value) if signed else value:,.1f}"
    )


def _per_second(value: float | None, *, signed: bool = False) -> str:
    return _UNKNOWN if value is None else f"{_rate(value, signed=signed)}/s"


def _rate_of(worker: WorkerStatus, kind: OutcomeKind) -> float | None:
    return None if worker.rates is None else worker.rates[kind]


def _state(worker: WorkerStatus) -> str:
    if worker.sample.problem:
        return "no response" if worker.sample.problem.startswith("no response") else "no worker"
    return "ready" if worker.sample.ready else "not ready"


def _workers(workers: Sequence[WorkerStatus], columns: int) -> Iterator[RenderableType]:
    rates = {
        "recorded/s": OutcomeKind.RECORDED,
        "dupl./s": OutcomeKind.DUPLICATE,
        "dead/s": OutcomeKind.DEAD_LETTERED,
    }
    if columns >= _WORKER_COLUMNS:
        rates["returned/s"] = OutcomeKind.RETURNED
    names = ("worker", "state", *rates, "held")
    rows = (_worker_row(each, rates.values()) for each in workers)
    table = screen.table(names, rows, right=range(1, len(names)))
    if len(workers) > 1:
        table.add_row(*map(Text, _totals(workers, rates.values())), style="bold")
    yield table
    for each in workers:
        problem = each.sample.problem or "; ".join(each.sample.reasons)
        if problem:
            yield screen.plain(f"{each.sample.address}: {problem}")


def _worker_row(worker: WorkerStatus, kinds: Iterable[OutcomeKind]) -> tuple[str | Text, ...]:
    sample = worker.sample
    held = "-" if sample.problem else f"{sample.held:,}"
    state = Text(_state(worker), _NO_WORKER if sample.problem else _STATE[sample.ready])
    return sample.address, state, *(_rate(_rate_of(worker, kind)) for kind in kinds), held


def _totals(workers: Sequence[WorkerStatus], kinds: Iterable[OutcomeKind]) -> Iterator[str]:
    yield "total"
    yield f"{sum(each.sample.ready for each in workers)} of {len(workers)}"
    known = [each.rates for each in workers if each.rates is not None]
    for kind in kinds:
        yield _rate(sum(rates[kind] for rates in known) if known else None)
    yield f"{sum(each.sample.held for each in workers):,}"


def _sparklines(history: History) -> Table:
    table = screen.table(("over time", "", "now", "peak"), right={2, 3})
    for name, values in history.series.items():
        digits = ".1f" if name.endswith("/s") else ".0f"
        known = [each for each in values if each is not None]
        peak = format(max(known, key=abs), f",{digits}") if known else "-"
        now = "-" if values[-1] is None else format(values[-1], f",{digits}")
        style = _DEAD if name == _DEAD_LETTERS else BAR_STYLE
        table.add_row(Text(name), Sparkline(values, style=style), Text(now), Text(peak))
    return table


def _reasons(status: Status, columns: int) -> Iterator[RenderableType]:
    reason_counts = status.reason_counts
    title = Text("dead letters by reason", style="bold")
    if reason_counts.counts is None:
        yield title + screen.plain(f": {_UNKNOWN} ({reason_counts.unknown})")
        return
    if not reason_counts.counts:
        yield title + Text(": none")
        return
    highest = max(reason_counts.counts.values())
    counts = reason_counts.counts.items()
    rows = ((name, f"{count:,}", Bar(count, highest, style=_DEAD)) for name, count in counts)
    yield screen.table(("dead letters by reason", "count", ""), rows, right={1})
    notes = list(_notes(status))
    joined = "; ".join(notes)
    for each in [joined] if len(joined) <= columns else notes:
        yield Text(each, style="dim")


def _notes(status: Status) -> Iterator[str]:
    reason_counts = status.reason_counts
    if not reason_counts.complete:
        seen, known = reason_counts.seen, reason_counts.known
        yield f"scanned {seen:,} of about {known:,}: `dead-letters list` counts all"
    if reason_counts.expires_at is not None:
        left = (reason_counts.expires_at - status.at).total_seconds()
        yield f"first expires in {duration(left)}"
    if reason_counts.scanned_at is not None:
        ago = (status.at - reason_counts.scanned_at).total_seconds()
        if ago >= 1:
            yield f"scanned {duration(ago)} ago"


class _LiveView:
    """Live view of the latest status and of an error since then.

    Args:
        observe: Returns the current status.
        live: Display to update.
        interval_seconds: Refresh interval, shown in the first line.
    """

    def __init__(self, observe: Observe, live: Live, interval_seconds: float) -> None:
        self._observe = observe
        self._live = live
        self._interval_seconds = interval_seconds
        self._history = History()
        self._status: Status | None = None
        self._error = ""

    async def refresh(self) -> None:
        """Show the current status, or an error above the latest one.

        Raises:
            AWSError: The first status could not be read.
        """
        try:
            self._status = await self._observe()
        except AWSError as error:
            if self._status is None:
                raise
            self._error = str(error)
        else:
            self._error = ""
            self._history.add(self._status)
        self.redraw()

    def redraw(self) -> None:
        status = self._status
        if status is None:
            self._live.update(Text("loading …"), refresh=True)
            return
        title = Text("aup-worker status", style="bold")
        title.append(
            f"  {status.at.astimezone():%H:%M:%S}, every {self._interval_seconds:g} s; q to quit",
            style="not bold",
        )
        parts: list[RenderableType] = [title]
        if self._error:
            parts.append(screen.plain(f"refresh failed: {self._error}", _NO_WORKER))
        parts += [_BLANK_LINE, draw(status, self._live.console.width, self._history)]
        self._live.update(Group(*parts), refresh=True)


async def watch(observe: Observe, console: Console, interval_seconds: float) -> None:
    """Show a live view until q, SIGINT or SIGTERM; then restore the terminal.

    Args:
        observe: Returns the current status.
        console: Terminal to draw on.
        interval_seconds: Refresh interval.

    Raises:
        AWSError: The first status could not be read.
    """
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    with _keys(ended), Live(console=console, screen=True, auto_refresh=False) as live:
        view = _LiveView(observe, live, interval_seconds)
        view.redraw()
        loop.add_signal_handler(signal.SIGWINCH, view.redraw)
        try:
            await repeat(view.refresh, interval_seconds, ended)
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)


async def repeat(
    action: Callable[[], Awaitable[None]], interval_seconds: float, ended: asyncio.Event
) -> None:
    """Run an action repeatedly until SIGINT, SIGTERM, SIGHUP or an event; cancel it then.

    Args:
        action: Coroutine function to run.
        interval_seconds: Time from one start to the next.
        ended: Event that ends the loop.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)

    async def run() -> None:
        while True:
            started_at = loop.time()
            await action()
            await asyncio.sleep(max(interval_seconds - (loop.time() - started_at), 0))

    running = asyncio.create_task(run())
    ending = asyncio.create_task(ended.wait())
    await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED)
    for task in (running, ending):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await running


def _keyboard() -> int | None:
    """Return the terminal's descriptor; None in the background or without a terminal."""
    try:
        descriptor = sys.stdin.fileno()
        in_foreground = os.isatty(descriptor) and os.tcgetpgrp(descriptor) == os.getpgrp()
    except (
        AttributeError,
        OSError,
    ):  # stdin is closed, or the terminal belongs to another session.
        return None
    return descriptor if in_foreground else None


@contextmanager
def _keys(ended: asyncio.Event) -> Iterator[None]:
    """Read single key presses; set the event on q."""
    descriptor = _keyboard()
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(descriptor)

    def pressed() -> None:
        keys = os.read(descriptor, _KEYS_BYTES)
        if not keys or b"q" in keys.lower():
            ended.set()

    tty.setcbreak(descriptor)
    attributes = termios.tcgetattr(descriptor)
    # Disable Ctrl-Z, which would leave the alternate screen on the terminal.
    attributes[6][termios.VSUSP] = os.fpathconf(descriptor, "PC_VDISABLE").to_bytes(1, "big")
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    loop.add_reader(descriptor, pressed)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
